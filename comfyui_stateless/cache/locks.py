"""Locks that hold between processes, and which of them this process holds.

Two lock files stand beside a cached file. Whoever uses the file, or is about to put it there,
shares ``<key>.lock``; whoever deletes it must have that lock alone. Whoever fetches it has
``<key>.fetch.lock`` alone. So a fetch never has to give up one lock to get another.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .own import open_own

RETRY_S = 0.005
"""Seconds between two tries to get a lock that is held for moments only."""

if sys.platform == "win32":
    import msvcrt
    import random

    _SLOTS = 64

    def _take(descriptor: int, *, shared: bool) -> bool:
        """Lock all slots, or one of them: what one shares, the other cannot have alone."""
        offset = random.randrange(_SLOTS) if shared else 0  # noqa: S311 - spreads, hides nothing
        os.lseek(descriptor, offset, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1 if shared else _SLOTS)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _take(descriptor: int, *, shared: bool) -> bool:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


_held: set[int] = set()
"""The descriptors of the locks that this process holds."""


def _close_in_child() -> None:
    """Keep a process that a node forks, and that may outlive us, from holding our locks."""
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


class Lock:
    """A lock that is held; it ends with ``release``, or with the process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        _held.add(descriptor)

    def release(self) -> None:
        """Let others have the lock."""
        _held.discard(self._descriptor)
        os.close(self._descriptor)

    def remove(self) -> None:
        """Release a lock that is not shared, and delete its file."""
        with suppress(OSError):  # Windows deletes no open file; an empty one does no harm
            self._path.unlink()
        self.release()


def try_lock(path: Path, *, shared: bool = False) -> Lock | None:
    """Take a lock, None if somebody's stands against it."""
    while True:
        descriptor = _open(path)
        try:
            if not _take(descriptor, shared=shared):
                os.close(descriptor)
                return None
            if _is_at(path, descriptor):
                return Lock(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was removed between the open and the lock


def _open(path: Path) -> int:
    try:
        return open_own(path, os.O_RDWR | os.O_CREAT)
    except FileNotFoundError:  # somebody has emptied the cache by deleting its folder
        path.parent.mkdir(parents=True, exist_ok=True)
        return open_own(path, os.O_RDWR | os.O_CREAT)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock alone for the moments that the block takes."""
    while (lock := try_lock(path)) is None:
        time.sleep(RETRY_S)
    try:
        yield
    finally:
        lock.release()


def use_lock(folder: Path, key: str) -> Path:
    """Return the lock of those who use a file."""
    return folder / f"{key}.lock"


def fetch_lock(folder: Path, key: str) -> Path:
    """Return the lock of the one who fetches a file."""
    return folder / f"{key}.fetch.lock"


class Holds:
    """The files that this process uses, counted; no process deletes them meanwhile."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mutex = threading.Lock()
        self._held: dict[str, tuple[Lock, int]] = {}

    def take(self, key: str) -> None:
        """Hold on to a key's file, whether it is there or not."""
        while not self._try(key):
            time.sleep(RETRY_S)

    def _try(self, key: str) -> bool:
        with self._mutex:
            lock, count = self._held.get(key, (None, 0))
            lock = lock or try_lock(use_lock(self._folder, key), shared=True)
            if lock is not None:
                self._held[key] = (lock, count + 1)
            return lock is not None

    def drop(self, key: str) -> None:
        """Undo one ``take``."""
        with self._mutex:
            lock, count = self._held.pop(key)
            if count > 1:
                self._held[key] = (lock, count - 1)
            else:
                lock.release()
