"""The files of runs: folders of their own inside ComfyUI's, and what is found there.

A run's folder lies directly in ComfyUI's output (and temp) folder, so that no parent is shared
between runs and every rename stays on one file system. Its name tells host and process, so that
the next start can sweep what a killed process left.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import folder_paths
import psutil

log = logging.getLogger("comfyui_stateless.host")

MARK = "stateless"
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_TOKEN = secrets.token_hex(4)
ABANDONED_AFTER_S = 24 * 3600
"""Age from which a folder that another host left is swept: that host cannot be asked."""


class RunFolder:
    """The folders of one run, made when first needed.

    Attributes:
        name: The name of the folder inside ComfyUI's output and temp folders.
    """

    def __init__(self, run_id: str) -> None:
        self.name = f"{MARK}-{_HOST}-{os.getpid()}-{_TOKEN}-{run_id}"
        self._lock = threading.Lock()
        self._made: set[Path] = set()
        self._open = True
        self._idle = asyncio.Event()
        self._idle.set()

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

    def busy(self) -> None:
        """Keep the folders until ``idle`` is called: ComfyUI works on the run."""
        self._idle.clear()

    def idle(self) -> None:
        """Note that ComfyUI is done with the run."""
        self._idle.set()

    @property
    def is_idle(self) -> bool:
        """Whether ComfyUI has nothing to do with the run."""
        return self._idle.is_set()

    @property
    def is_unused(self) -> bool:
        """Whether nothing was ever put into it."""
        return not self._made

    def close(self) -> None:
        """Make no folder from now on."""
        with self._lock:
            self._open = False

    async def remove(self) -> None:
        """Delete the folders once ComfyUI is done with the run."""
        await self._idle.wait()
        self.close()
        if self._made:
            await asyncio.to_thread(_remove_trees, self._made)


class Folders:
    """Gives every run its folder and sees that it goes."""

    def __init__(self) -> None:
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
        removal = asyncio.create_task(folder.remove())
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)
        if folder.is_idle:
            await asyncio.shield(removal)


def sweep() -> None:
    """Delete what runs of dead processes left in the output and temp folders."""
    for base in (folder_paths.get_output_directory(), folder_paths.get_temp_directory()):
        _remove_trees(path for path in Path(base).glob(f"{MARK}-*-*-*-*") if _is_abandoned(path))


def _is_abandoned(path: Path) -> bool:
    _, host, pid, token, *_ = path.name.split("-")
    if not path.is_dir() or not pid.isdigit() or token == _TOKEN:
        return False
    if host != _HOST:
        return time.time() - path.stat().st_mtime > ABANDONED_AFTER_S
    return int(pid) == os.getpid() or not psutil.pid_exists(int(pid))


def _remove_trees(paths: Iterable[Path]) -> None:
    for path in paths:
        for _ in range(3):
            shutil.rmtree(path, ignore_errors=True)
            if not path.exists():
                break
            time.sleep(0.05)
        else:
            log.warning("Could not delete %s", path)
