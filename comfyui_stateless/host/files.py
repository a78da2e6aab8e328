"""The files of runs: folders of their own inside ComfyUI's, and what is found there.

A run's folder lies directly in ComfyUI's output (and temp) folder, so that no parent is shared
between runs and every rename stays on one file system. Its name tells host and process, as do
those of all files that we put into ComfyUI's folders, so that the next start can sweep what a
killed process left.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import re
import secrets
import shutil
import socket
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import folder_paths
import psutil

from .claims import Claims

log = logging.getLogger("comfyui_stateless.host")

MARK = "stateless"
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_MARKED = re.compile(rf"{MARK}-([0-9a-f]{{8}})-([0-9]{{1,9}})-(([0-9a-f]{{4}})?[0-9a-f]{{8}})-.+")

MESHES = "3d"
"""The folder inside the input folder from which ComfyUI's nodes take 3D models."""

SWEPT_DEPTH = 4
"""Folders below ComfyUI's own in which leftovers are looked for: packs sort by year, month, day."""

ABANDONED_AFTER_S = 24 * 3600
"""Age from which what is swept may be of another host, or container, that cannot be asked."""


def _processes() -> str:
    """Return what tells apart the containers of one machine: a process id counts in one alone."""
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # a system that has none
        space = ""
    return hashlib.sha256(space.encode()).hexdigest()[:4]


_PROCESSES = _processes()
_TOKEN = _PROCESSES + secrets.token_hex(4)


def marked(name: str) -> str:
    """Return a name that tells that this process put what bears it there."""
    return f"{MARK}-{_HOST}-{os.getpid()}-{_TOKEN}-{name}"


def is_marked(name: str) -> bool:
    """Say whether a name tells which process put there what bears it."""
    return _MARKED.fullmatch(name) is not None


class RunFolder:
    """The folders of one run, made when first needed, and what is to be done when it is over.

    Attributes:
        name: The name of the folder inside ComfyUI's output and temp folders.
    """

    def __init__(self, run_id: str) -> None:
        self.name = marked(run_id)
        self._lock = threading.Lock()
        self._made: set[Path] = set()
        self._releases: list[Callable[[], None]] = []
        self._open = True
        self._is_idle = True
        self._until_idle: asyncio.Event | None = None  # made when needed: it takes 0.8 KB

    def folder(self) -> Path:
        """Return the run's folder in the output folder, made if need be."""
        return self.make(Path(folder_paths.get_output_directory()))

    def make(self, base: Path, *below: str) -> Path:
        """Make the run's folder in ``base``, and a path below it; return that.

        Raises:
            FileNotFoundError: The run is over and its folders are gone.
        """
        root = base / self.name
        with self._lock:
            if not self._open:
                raise FileNotFoundError(root)
            path = root.joinpath(*below)
            path.mkdir(parents=True, exist_ok=True)
            self._made.add(root)
        return path

    def owns(self, path: Path) -> bool:
        """Say whether a file lies in one of the run's folders."""
        with self._lock:
            return any(path.is_relative_to(root) for root in self._made)

    def is_below(self, path: Path) -> bool:
        """Say whether any of the run's folders lies in a folder, or is that."""
        with self._lock:
            return any(root.is_relative_to(path) for root in self._made)

    def discard(self, path: Path) -> None:
        """Have a folder deleted together with the run's own; only while what was put off is done."""
        with self._lock:
            self._made.add(path)

    def defer(self, release: Callable[[], None]) -> None:
        """Have ``release`` called, on the loop's thread, once the run is over.

        That is when the workspace is left and ComfyUI is done with it; if it is over already, now.
        """
        with self._lock:
            if self._open:
                self._releases.append(release)
                return
        _released(release)

    def busy(self) -> None:
        """Keep the folders until ``idle`` is called: ComfyUI works on the run."""
        self._is_idle = False

    def idle(self) -> None:
        """Note that ComfyUI is done with the run; on the loop's thread."""
        self._is_idle = True
        if self._until_idle is not None:
            self._until_idle.set()

    @property
    def is_idle(self) -> bool:
        """Whether ComfyUI has nothing to do with the run."""
        return self._is_idle

    @property
    def is_unused(self) -> bool:
        """Whether nothing was ever put into it."""
        return not self._made

    def close(self) -> None:
        """Make no folder from now on, and do what was put off until now."""
        with self._lock:
            self._open = False
            releases, self._releases = self._releases, []
        for release in releases:
            _released(release)

    async def remove(self) -> list[Path]:
        """Delete the folders once ComfyUI is done with the run.

        Returns:
            Those that are still there, or were missing.
        """
        if not self._is_idle:
            self._until_idle = asyncio.Event()
            await self._until_idle.wait()
        self.close()
        if self._made:
            return await asyncio.to_thread(_remains, self._made)
        return []


class Folders:
    """Gives every run its folder and sees that it goes.

    Args:
        left: Is given the folders that could not be deleted, or were missing.
    """

    def __init__(self, left: Callable[[list[Path]], None] = lambda _: None) -> None:
        self._left = left
        self._removals: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def workspace(self, run_id: str) -> AsyncIterator[RunFolder]:
        """Return the folder of a run; leaving deletes it, at the latest when the run has ended."""
        folder = RunFolder(run_id)
        try:
            yield folder
        finally:
            if folder.is_idle:
                folder.close()
            if not (folder.is_idle and folder.is_unused):
                await self._removed(folder)

    async def _removed(self, folder: RunFolder) -> None:
        removal = asyncio.create_task(self._remove(folder))
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)
        if folder.is_idle:
            await asyncio.shield(removal)

    async def _remove(self, folder: RunFolder) -> None:
        if left := await folder.remove():
            self._left(left)


def places() -> list[Path]:
    """Return ComfyUI's output, temp and input folders."""
    return [
        Path(folder_paths.get_output_directory()),
        Path(folder_paths.get_temp_directory()),
        Path(folder_paths.get_input_directory()),
    ]


def sweep(claims: Claims) -> None:
    """Delete what dead processes left in ComfyUI's folders, which this process has claimed."""
    for place in places():
        if found := _marked_in(place, SWEPT_DEPTH):
            is_alone = claims.is_alone(place)
            remove(path for path in found if _is_abandoned(path, is_alone=is_alone))


def _marked_in(place: Path, depth: int) -> list[Path]:
    """Return what bears a mark in a folder and in those below it, where packs may put it."""
    found: list[Path] = []
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if is_marked(entry.name):
                found.append(Path(entry.path))
            elif depth and entry.is_dir(follow_symlinks=False):
                found += _marked_in(Path(entry.path), depth - 1)
    return found


def _is_abandoned(path: Path, *, is_alone: bool) -> bool:
    mark = _MARKED.fullmatch(path.name)
    if mark is None or mark[3] == _TOKEN:
        return False
    is_ours = mark[1] == _HOST
    if is_ours and mark[4] in (_PROCESSES, None):
        pid = int(mark[2])
        return pid == os.getpid() or not psutil.pid_exists(pid)
    if is_ours and is_alone:  # of a container that is no more
        return True
    return time.time() - _made_at(path) > ABANDONED_AFTER_S


def _made_at(path: Path) -> float:
    """Return Unix seconds; a file's time of modification may be that of what it is a link to."""
    found = path.stat()
    return found.st_mtime if path.is_dir() else found.st_ctime


def _released(release: Callable[[], None]) -> None:
    try:
        release()
    except Exception:
        log.exception("Something that a run held could not be released")


def remove(paths: Iterable[Path]) -> list[Path]:
    """Delete files and folders that nobody uses any more; return what is still there."""
    left = []
    for path in paths:
        for _ in range(3):
            if is_deleted(path):
                break
            time.sleep(0.05)
        else:
            log.warning("Could not delete %s", path)
            left.append(path)
    return left


def _remains(paths: Iterable[Path]) -> list[Path]:
    missing = [path for path in paths if not os.path.lexists(path)]
    return missing + remove(paths)


def is_deleted(path: Path) -> bool:
    """Delete a file or folder; say whether it is gone."""
    if path.is_dir() and not path.is_symlink():
        _open_up(path)
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
    return not os.path.lexists(path)


def _open_up(folder: Path) -> None:
    """Let the folders in a folder be read and emptied, whatever a node has made of them."""
    with contextlib.suppress(OSError):
        folder.chmod(stat.S_IRWXU)
    for above, names, _ in os.walk(folder):
        for path in (Path(above, name) for name in names):
            if not path.is_symlink():
                with contextlib.suppress(OSError):
                    path.chmod(stat.S_IRWXU)
