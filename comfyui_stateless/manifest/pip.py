"""Step 2: Python's packages, and how requirements come into ComfyUI's Python at all."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from .commands import Command, Output, failed, proxy_variables, run
from .entries import Entry, Manifest, Place
from .environment import look_into, origin_of
from .progress import Report

_QUIET = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "UV_NO_PROGRESS": "1"}

_ERROR = re.compile(
    r"(?i)^(?!.*already satisfied).*(error|because|fail|not found|\u00d7|\u2570|\u251c)"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?=\s*(?:$|[\[<>=!~;@ ]))")


async def install(manifest: Manifest, place: Place, report: Report) -> None:
    """Install the packages, all in one go, so that their versions fit each other.

    Raises:
        InstallationFailed: It cannot be done.
    """
    entries = manifest.pip
    if not entries:
        return
    report.step("pip packages", len(entries))
    environment = await look_into(place.python)
    texts = [entry.text for entry in entries]
    outcome, are_there = "already there", environment.has_all(texts, place.comfy_home)
    if not are_there:
        report.begun("pip")
        output = await install_requirements(texts, place.comfy_home, place, "pip", report)
        if output.code != 0:
            raise failed(_guilty(entries, output, place), f"{installer(place)[0]} {output.ending}")
        outcome = "installed" if are_there is False else "installed, or already there"
    for entry in entries:
        report.ended(f"pip {entry}", outcome)


async def plan(manifest: Manifest, place: Place) -> list[str]:
    """Return what ``install`` would do."""
    if not manifest.pip:
        return []
    environment = await look_into(place.python)
    ends = {True: ", already there", False: "", None: ", unless it is there"}
    states = [(entry, environment.has(entry.text, place.comfy_home)) for entry in manifest.pip]
    return [
        f"pip: {'' if state else 'install '}{entry} (with {installer(place)[0]}){ends[state]}"
        for entry, state in states
    ]


def installer(place: Place) -> tuple[str, list[str]]:
    """Return the name of what installs packages, uv if there is one, and its command."""
    if (uv := shutil.which("uv")) is not None:
        return "uv", [uv, "pip", "install", "--python", str(place.python)]
    return "pip", [str(place.python), "-m", "pip", "install", "--progress-bar", "off"]


async def install_requirements(
    texts: Sequence[str], folder: Path, place: Place, label: str, report: Report
) -> Output:
    """Install requirements into ComfyUI's Python.

    They come through a pipe: a token in a URL would be seen among the arguments.

    Args:
        folder: Where relative paths start.
    """
    _, command = installer(place)
    source = "-" if command[1] == "pip" else "/dev/stdin"
    return await run(
        Command(
            [*command, "--requirement", source],
            folder,
            variables(place),
            "".join(f"{text}\n" for text in texts),
        ),
        label,
        report,
    )


async def install_file(path: Path, place: Place, label: str, report: Report) -> Output:
    """Install what a requirements.txt names into ComfyUI's Python."""
    _, command = installer(place)
    arguments = [*command, "--requirement", path.name]
    return await run(Command(arguments, path.parent, variables(place)), label, report)


def variables(place: Place) -> dict[str, str]:
    """Return what an installer's environment has beside ours."""
    return {**_QUIET, **proxy_variables(place.settings)}


def _guilty(entries: Sequence[Entry], output: Output, place: Place) -> Sequence[Entry]:
    """Return the packages that the installer's errors name, or all."""
    errors = (line for line in output.lines[-20:] if _ERROR.search(line))
    text = "\n".join(errors).lower()
    return [entry for entry in entries if _is_named(entry, text, place)] or entries


def _is_named(entry: Entry, text: str, place: Place) -> bool:
    found = _NAME.match(entry.text)
    name = origin_of(entry.text, place.comfy_home)[0] if found is None else found[0]
    return re.search(rf"(?<![\w.-]){re.escape(name.lower())}(?![\w-])", text) is not None
