"""Brings the repository of a custom node to a folder, at the ref that is wanted.

Git runs here as the operator's own: his configuration and his credential helpers count. What
requests name is cloned by ``repositories`` instead, which trusts nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .commands import Command, Output, failed, proxy_variables, run
from .entries import NodeEntry, Place
from .progress import Report

STALL_S = 120
"""Seconds without a byte after which a transfer has failed."""

_COMMIT = re.compile(r"[0-9a-f]{7,40}|[0-9a-f]{64}", re.IGNORECASE)
_VARIABLES = {
    "GCM_INTERACTIVE": "never",
    "GIT_ASKPASS": "true",  # a program that answers nothing
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_DIR": "",
    "GIT_INDEX_FILE": "",
    "GIT_WORK_TREE": "",
    "LC_ALL": "C",
    "SSH_ASKPASS": "true",
}


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched.

    Attributes:
        commit: What git calls it.
        branch: The branch that it is the end of, if it was asked for as such.
    """

    commit: str
    branch: str | None = None


class Git:
    """Runs git in the folder of one custom node."""

    def __init__(self, entry: NodeEntry, folder: Path, place: Place, report: Report) -> None:
        self.entry = entry
        self.folder = folder
        self._place = place
        self._report = report

    async def try_to(self, *arguments: str) -> Output:
        """Run a git command, and see what comes."""
        command = Command(["git", *arguments], self.folder, self._variables())
        return await run(command)

    async def run(self, *arguments: str) -> str:
        """Run a git command and return what it wrote.

        Raises:
            InstallationFailed: It failed.
        """
        output = await self.try_to(*arguments)
        for line in output.lines if arguments[0] in ("fetch", "submodule") else ():
            self._report.line(label(self.entry), line)
        if output.code != 0:
            raise failed([self.entry], f"git {arguments[0]} {output.ending}")
        return output.text.strip()

    def _variables(self) -> dict[str, str]:
        """Return the environment: a password is seen there by nobody, as it would be in arguments."""
        settings = {
            "advice.detachedHead": "false",
            "http.lowSpeedLimit": "1",
            "http.lowSpeedTime": str(STALL_S),
            "safe.directory": "*",
        }
        if self.entry.login is not None and self.entry.clone_url is not None:
            url = urlsplit(self.entry.clone_url)
            header = f"http.{url.scheme}://{url.netloc}/.extraHeader"
            settings[header] = f"Authorization: {self.entry.login}"
        variables = {**_VARIABLES, **proxy_variables(self._place.settings)}
        for index, (name, value) in enumerate(settings.items()):
            variables |= {f"GIT_CONFIG_KEY_{index}": name, f"GIT_CONFIG_VALUE_{index}": value}
        return {**variables, "GIT_CONFIG_COUNT": str(len(settings))}


def label(entry: NodeEntry) -> str:
    """Return how a custom node is called in messages."""
    return f"custom node {entry}"


async def clone(git: Git) -> None:
    """Bring the repository to git's folder, which is empty.

    Raises:
        InstallationFailed: There is no such repository or ref, or it is not to be had.
    """
    assert git.entry.clone_url is not None
    await git.run("init", "--quiet", "--template=")
    await git.run("remote", "add", "origin", git.entry.clone_url)
    await check_out(git, await fetch(git, ["--depth=1"]))


async def fetch(git: Git, depth: Sequence[str]) -> Fetched:
    """Fetch the wanted ref as it is now.

    Args:
        depth: What limits the history that is fetched.

    Raises:
        InstallationFailed: There is no such ref, or it is not to be had.
    """
    branch, ref = await _found(git)
    if branch is None:
        return Fetched(await _fetched(git, ref, depth))
    remote = f"refs/remotes/origin/{branch}"
    await git.run("fetch", *depth, "origin", f"+refs/heads/{branch}:{remote}")
    return Fetched(remote, branch)


async def check_out(git: Git, fetched: Fetched, *, force: bool = False) -> None:
    """Check out what was fetched, with its submodules.

    Args:
        force: Whether files that were changed are overwritten.

    Raises:
        InstallationFailed: It cannot be done, or a submodule is not to be had.
    """
    how = ["checkout", "--quiet", *(["--force"] if force else [])]
    if fetched.branch is not None:
        await git.run(*how, "-B", fetched.branch, fetched.commit, "--")
    else:
        await git.run(*how, "--detach", f"{fetched.commit}^{{commit}}", "--")
    await _bring_submodules(git)


async def _found(git: Git) -> tuple[str | None, str]:
    """Return the branch that is wanted, else what to fetch."""
    ref = git.entry.ref
    if ref is None:
        answer = await git.run("ls-remote", "--symref", "origin", "HEAD")
        head = re.search(r"^ref: refs/heads/(\S+)\s+HEAD$", answer, re.MULTILINE)
        return (head[1] if head else None), "HEAD"
    branch, tag = f"refs/heads/{ref}", f"refs/tags/{ref}"
    answer = await git.run("ls-remote", "origin", branch, tag)
    names = {line.split("\t")[-1] for line in answer.splitlines()}
    if branch in names:
        return ref, branch
    return None, tag if tag in names else ref


async def _fetched(git: Git, ref: str, depth: Sequence[str]) -> str:
    """Fetch a tag, a commit or some other ref; return what it is called here."""
    refspec = f"+{ref}:{ref}" if ref.startswith("refs/tags/") else ref
    output = await git.try_to("fetch", *depth, "--no-tags", "origin", refspec)
    if output.code == 0:
        return "FETCH_HEAD"
    if not _COMMIT.fullmatch(ref):
        reason = f"the repository has no branch, tag or commit {ref}; git fetch {output.ending}"
        raise failed([git.entry], reason)
    # A server may give no commit by its hash, and none gives one by the start of its hash.
    await git.run("fetch", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*", *_all(depth))
    found = await git.try_to("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    if found.code != 0:
        raise failed([git.entry], f"the repository has no branch, tag or commit {ref}")
    return ref


def _all(depth: Sequence[str]) -> list[str]:
    """Return what fetches the whole history where a part of it was to be fetched."""
    return ["--depth=2147483647"] if depth else []


async def _bring_submodules(git: Git) -> None:
    if not (git.folder / ".gitmodules").is_file():
        return
    await git.run("submodule", "--quiet", "sync", "--recursive")
    update = ("submodule", "--quiet", "update", "--init", "--recursive", "--force")
    if (await git.try_to(*update, "--depth=1")).code != 0:
        await git.run(*update)


async def is_at(git: Git, ref: str) -> bool:
    """Say whether a ref is checked out, as far as that is known without the server."""
    head = (await git.try_to("rev-parse", "--verify", "--quiet", "HEAD")).text.strip()
    if _COMMIT.fullmatch(ref) and head.startswith(ref.lower()):
        return True
    branch = await git.try_to("symbolic-ref", "--quiet", "--short", "HEAD")
    if branch.code == 0:
        return branch.text.strip() == ref
    tag = await git.try_to("rev-parse", "--verify", "--quiet", f"refs/tags/{ref}^{{commit}}")
    return tag.code == 0 and tag.text.strip() == head


async def obstacle(git: Git) -> str | None:
    """Return why a clone that is there cannot be moved to the wanted ref, None if it can."""
    url = (await git.try_to("remote", "get-url", "origin")).text.strip()
    if _plain(url) != _plain(git.entry.clone_url or ""):
        return "it is no clone of that repository"
    changes = await git.try_to("status", "--porcelain", "--untracked-files=no")
    if changes.code != 0:
        return f"git status {changes.ending}"
    return "its files have been changed" if changes.text.strip() else None


async def depth_of(git: Git) -> list[str]:
    """Return what keeps a clone as shallow as it is."""
    answer = await git.try_to("rev-parse", "--is-shallow-repository")
    return ["--depth=1"] if answer.text.strip() == "true" else []


def unlock(folder: Path) -> None:
    """Remove what a git that was killed has left locked."""
    for name in ("index.lock", "HEAD.lock", "shallow.lock"):
        with suppress(OSError):
            (folder / ".git" / name).unlink()


def _plain(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    return f"{host}{parts.path}".rstrip("/").removesuffix(".git").lower()
