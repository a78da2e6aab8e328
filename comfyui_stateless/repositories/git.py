"""Runs git: without a shell, a prompt, hooks, helpers, redirects, or settings of a user's.

A secret reaches git in its environment, which other users cannot read, as its process's arguments
can be; it is never written to the clone's configuration.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..config import inherited
from ..errors import (
    AccessDenied,
    MissingDependency,
    NoSpace,
    ObjectNotFound,
    StorageError,
    TransferFailed,
)
from ..naming import redacted
from ..storage.base import Cancel

STALL_S = 120
"""Seconds without a byte after which a transfer has failed."""

OLDEST = (2, 31)
"""The first that reads settings from variables, where no other user sees them."""

SETTINGS = {
    "advice.detachedHead": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.symlinks": "false",  # a link in a repository could lead out of its folder
    "credential.helper": "",
    "fetch.recurseSubmodules": "false",
    "filter.lfs.clean": "",
    "filter.lfs.process": "",  # git-lfs asks hosts that the repository names, unchecked
    "filter.lfs.required": "false",
    "filter.lfs.smudge": "",
    "gc.auto": "0",
    "http.followRedirects": "false",  # where one leads is checked before git starts
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": str(STALL_S),
    "init.defaultBranch": "main",
    "maintenance.auto": "false",
    "protocol.allow": "never",
    "protocol.http.allow": "always",
    "protocol.https.allow": "always",
    "safe.directory": "*",
    "submodule.recurse": "false",
}

_VARIABLES = {
    "GCM_INTERACTIVE": "never",
    "GIT_ASKPASS": "",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}

_REASONS: tuple[tuple[str, type[StorageError]], ...] = (
    (r"couldn't find remote ref|not our ref|unadvertised object", ObjectNotFound),
    (r"invalid reference|not a tree|unable to read tree", ObjectNotFound),
    (r"repository .* not found|returned error: (404|410)", ObjectNotFound),
    (r"Authentication failed|could not read (Username|Password)", AccessDenied),
    (r"terminal prompts disabled|returned error: (401|403)", AccessDenied),
    (r"No space left on device|Disk quota exceeded", NoSpace),
)
_URL = re.compile(r"https?://[^\s'\"]+")


@dataclass(frozen=True, slots=True)
class Git:
    """Runs git in one folder.

    Attributes:
        folder: The work tree.
        settings: What this repository's commands get beside ``SETTINGS``, secrets included.
        cancel: Ends a command, and what it has started.
    """

    folder: Path
    settings: tuple[tuple[str, str], ...]
    cancel: Cancel

    def check_version(self) -> None:
        """See that git takes its settings from us.

        From 2.37 on it also connects to the address that was checked, and to no other.

        Raises:
            MissingDependency: It is too old for that, or not there.
        """
        found = re.search(r"(\d+)\.(\d+)", self.run("version"))
        if found is None or (int(found[1]), int(found[2])) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise MissingDependency(f"Repositories need git {oldest} or newer.")

    def run(self, *arguments: str) -> str:
        """Run a git command and return what it printed.

        Raises:
            StorageError: It failed; a subclass says how, the message has git's own reason.
            MissingDependency: There is no git.
            Cancelled: It was cancelled.
        """
        process = self._start(arguments)
        with process:
            try:
                with self.cancel.calling(lambda: _end(process)):
                    output, complaint = process.communicate()
            except BaseException:
                _end(process)
                raise
        self.cancel.check()
        if process.returncode:
            raise _error(complaint)
        return output

    def _start(self, arguments: Iterable[str]) -> subprocess.Popen[str]:
        try:
            return subprocess.Popen(  # noqa: S603  # the arguments are ours, and refs are checked
                ["git", *arguments],  # noqa: S607  # found on PATH, wherever it is installed
                cwd=self.folder,
                env=_environment({**SETTINGS, **dict(self.settings)}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except FileNotFoundError:
            raise MissingDependency("Repositories need git, and there is none on PATH.") from None


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in inherited().items()
        if not name.startswith("GIT_") or name.startswith("GIT_SSL_")
    }
    numbered = {"GIT_CONFIG_COUNT": str(len(settings))}
    for index, (key, value) in enumerate(settings.items()):
        numbered |= {f"GIT_CONFIG_KEY_{index}": key, f"GIT_CONFIG_VALUE_{index}": value}
    return {**kept, **_VARIABLES, **numbered}


def _end(process: subprocess.Popen[str]) -> None:
    """Kill git with what it has started: git-remote-https and the like are its children."""
    if process.poll() is not None:
        return
    if os.name == "posix":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _error(complaint: str) -> StorageError:
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
    reason = (fatal or lines or ["git failed without a word"])[-1]
    reason = _URL.sub(lambda found: redacted(found[0]), reason.partition(": ")[2] or reason)
    for pattern, error in _REASONS:
        if re.search(pattern, complaint):
            return error(reason)
    return TransferFailed(reason)
