"""One folder for one process: a lock says whose it is, and the system drops it with the process."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

from ..errors import StorageError
from .descriptors import Held, held

MAX_PROCESSES = 64
"""Processes that can share a STATE_DIR."""

_LOCK = "lock"

if sys.platform == "win32":
    import msvcrt

    def _locks(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _locks(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class Claim:
    """A folder that is this process's until the claim is closed; made by ``claim``."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._held: Held | None = held(descriptor)
        if hasattr(os, "register_at_fork"):
            _close_in_children(weakref.ref(self))

    @property
    def is_held(self) -> bool:
        """Whether the lock is still ours: a node may have closed its descriptor."""
        return self._held is not None and self._held.is_held

    def renew(self) -> None:
        """Take the lock again where a node has let go of it.

        Raises:
            StorageError: Another process has it meanwhile.
            OSError: It cannot be locked.
        """
        if self.is_held:
            return
        descriptor = _locked(self.path)
        if descriptor is None:
            raise StorageError("Another process has taken over the journal in STATE_DIR.")
        self._held = held(descriptor)

    def close(self) -> None:
        """Let go of the folder."""
        known, self._held = self._held, None
        if known is not None and known.is_held:
            os.close(known.number)


def claim(folder: Path) -> Claim:
    """Claim ``folder``, or the first of its subfolders ``2``, ``3`` … that nobody owns.

    Raises:
        OSError: It cannot be made, written or locked.
        StorageError: All are owned.
    """
    for path in _candidates(folder):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if found := _claimed(path):
            return found
    raise StorageError(f"STATE_DIR ({folder}) is in use by {MAX_PROCESSES} processes already.")


def abandoned(folder: Path, own: Path) -> Iterator[Claim]:
    """Yield a claim on each folder beside ``own`` whose process has died.

    Raises:
        OSError: One cannot be locked.
    """
    for path in _candidates(folder):
        if path != own and (path / _LOCK).exists() and (found := _claimed(path)):
            yield found


def _claimed(path: Path) -> Claim | None:
    descriptor = _locked(path)
    return None if descriptor is None else Claim(path, descriptor)


def _locked(path: Path) -> int | None:
    """Return a descriptor with which the folder is ours, None where another process has it."""
    descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        is_ours = _locks(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    if is_ours:
        return descriptor
    os.close(descriptor)
    return None


def _candidates(folder: Path) -> Iterator[Path]:
    yield folder
    yield from (folder / str(number) for number in range(2, MAX_PROCESSES + 1))


def _close_in_children(claimed: weakref.ref[Claim]) -> None:
    """Keep a forked child that outlives us from holding the lock."""

    def after_fork() -> None:
        if (found := claimed()) is not None:
            found.close()

    os.register_at_fork(after_in_child=after_fork)
