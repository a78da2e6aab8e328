"""Step 1: Debian's packages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from .commands import NOT_STARTED, Command, Output, failed, run
from .entries import Entry, Manifest, Place
from .progress import Report

LISTS = Path("/var/lib/apt/lists")

LOCK_TIMEOUT_S = 120
"""Seconds that another apt may take before ours gives up."""

_QUIET = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
_FORMAT = "${db:Status-Status}|${Package}|${Architecture}|${Version}\\n"


async def install(manifest: Manifest, place: Place, report: Report) -> None:
    """Install the packages that are not there.

    Raises:
        InstallationFailed: One cannot be installed, or we may not.
    """
    entries = manifest.apt
    if not entries:
        return
    report.step("apt packages", len(entries))
    missing = await missing_of(entries)
    for entry in entries:
        if entry not in missing:
            report.ended(f"apt {entry}", "already there")
    if missing:
        report.begun("apt")
        await _install(missing, report)
        for entry in missing:
            report.ended(f"apt {entry}", "installed")


async def plan(manifest: Manifest, place: Place) -> list[str]:
    """Return what ``install`` would do."""
    missing = await missing_of(manifest.apt) if manifest.apt else []
    return [
        f"apt: {'install ' if entry in missing else ''}{entry}"
        f"{'' if entry in missing else ', already there'}"
        for entry in manifest.apt
    ]


async def missing_of(entries: Sequence[Entry]) -> list[Entry]:
    """Return the packages that are not installed, or not in the wanted version."""
    names = sorted({entry.text.partition("=")[0].partition("/")[0] for entry in entries})
    command = ["dpkg-query", "--show", "--showformat", _FORMAT, *names]
    output = await run(Command(command, variables=_QUIET))
    if output.code == NOT_STARTED:
        raise failed(entries, "apt packages need a Debian or Ubuntu, and there is no dpkg-query")
    rows = [line.split("|") for line in output.lines if line.startswith("installed|")]
    found = {(name, version) for _, name, _, version in rows}
    found |= {(f"{name}:{architecture}", version) for _, name, architecture, version in rows}
    return [entry for entry in entries if not _is_there(entry, found)]


def _is_there(entry: Entry, found: set[tuple[str, str]]) -> bool:
    name, _, version = entry.text.partition("/")[0].partition("=")
    return (name, version) in found if version else name in {each for each, _ in found}


async def _install(entries: Sequence[Entry], report: Report) -> None:
    apt = _apt(entries)

    async def get(*arguments: str) -> Output:
        return await run(Command([*apt, *arguments], variables=_QUIET), "apt", report)

    names = [entry.text for entry in entries]
    install = ["install", "--yes", "--no-install-recommends", "--", *names]
    is_fresh = not _has_lists()
    if is_fresh:
        await get("update")
    output = await get(*install)
    if "dpkg was interrupted" in output.text:
        dpkg = [*apt[: apt.index("apt-get")], "dpkg", "--configure", "--pending", "--force-confdef"]
        await run(Command(dpkg, variables=_QUIET), "apt", report)
        output = await get(*install)
    if output.code != 0 and not is_fresh:
        await get("update")
        output = await get(*install)
    if output.code != 0:
        raise failed(_guilty(entries, output), f"apt-get {output.ending}")


def _has_lists() -> bool:
    return any(LISTS.glob("*Packages*"))


def _apt(entries: Sequence[Entry]) -> list[str]:
    """Return how apt-get is run by us."""
    apt = ["apt-get", "-o", f"DPkg::Lock::Timeout={LOCK_TIMEOUT_S}", "-o", "Dpkg::Use-Pty=0"]
    apt += ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]
    if shutil.which("apt-get") is None:
        raise failed(entries, "apt packages need a Debian or Ubuntu, and there is no apt-get")
    if os.geteuid() == 0:
        return apt
    if shutil.which("sudo") is None:
        raise failed(
            entries,
            "only root installs apt packages, and there is no sudo; start as root, or build an "
            "image in which they are installed",
        )
    variables = [f"{name}={value}" for name, value in _QUIET.items()]
    return ["sudo", "--non-interactive", "env", *variables, *apt]


def _guilty(entries: Sequence[Entry], output: Output) -> Sequence[Entry]:
    """Return the packages that apt's errors name, or all."""
    errors = " ".join(line for line in output.lines if line.startswith("E:"))
    words = {word.strip("'\".,") for word in errors.split()}
    named = [e for e in entries if e.text.partition("=")[0].partition("/")[0] in words]
    return named or entries
