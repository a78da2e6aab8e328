"""Which folders of ComfyUI's this process uses, told to other processes of ours.

They may be in other containers, where none sees the other's process. So each holds a shared lock on
the folders themselves, and one that can have a folder's lock alone is alone there.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ATTEMPTS = 100
PAUSE_S = 0.002
"""For this long a lock may be somebody's alone who asks whether it is."""


class Claims:
    """The locks that this process holds. Where there are no locks, nobody is ever alone."""

    def __init__(self) -> None:
        self._descriptors: dict[Path, int] = {}

    def hold(self, folders: Iterable[Path]) -> None:
        """Begin to hold the locks of folders, of those that have any."""
        for folder in folders:
            with contextlib.suppress(OSError, ImportError):
                self._hold(folder)

    def is_alone(self, folder: Path) -> bool:
        """Say whether no other process of ours uses a folder. Takes some milliseconds.

        A process that asks, and is not alone, has no lock for a moment: Linux takes the shared one
        away first. So it is asked twice.
        """
        try:
            if not self._is_of(folder):
                self._hold(folder)
            return self._could_be_alone(folder) and self._could_be_alone(folder)
        except (OSError, ImportError):
            return False

    def _could_be_alone(self, folder: Path) -> bool:
        locks: Any = importlib.import_module("fcntl")
        try:
            locks.flock(self._descriptors[folder], locks.LOCK_EX | locks.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            self._share(folder)
        time.sleep(PAUSE_S)
        return True

    def _hold(self, folder: Path) -> None:
        self._descriptors[folder] = os.open(folder, os.O_RDONLY)
        self._share(folder)

    def _share(self, folder: Path) -> None:
        locks: Any = importlib.import_module("fcntl")
        for _ in range(ATTEMPTS - 1):
            with contextlib.suppress(BlockingIOError):
                locks.flock(self._descriptors[folder], locks.LOCK_SH | locks.LOCK_NB)
                return
            time.sleep(PAUSE_S)
        locks.flock(self._descriptors[folder], locks.LOCK_SH | locks.LOCK_NB)

    def _is_of(self, folder: Path) -> bool:
        """Say whether the lock is still the folder's: nodes delete folders and close files."""
        with contextlib.suppress(OSError, KeyError):
            return os.path.samestat(os.fstat(self._descriptors[folder]), folder.stat())
        return False
