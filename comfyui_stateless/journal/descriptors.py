"""Which descriptors of this process are of which files: a node may close any of them.

The number of one that was closed is given to what is opened next, so whoever goes on with it
writes into somebody else's file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

FOLDERS = ("/dev/fd", "/proc/self/fd")
"""Where systems list a process's descriptors; Windows does not."""

Identity = tuple[int, int]
"""Device and inode: what tells one file from another of the same name."""


class Held(NamedTuple):
    """A descriptor, and the file that it is of."""

    number: int
    file: Identity

    @property
    def is_held(self) -> bool:
        """Whether it is of that file still."""
        try:
            found = os.fstat(self.number)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self.file


def held(number: int) -> Held:
    """Return a descriptor with the file that it is of now."""
    found = os.fstat(number)
    return Held(number, (found.st_dev, found.st_ino))


def held_of(files: Iterable[Identity | None]) -> tuple[Held, ...]:
    """Return the descriptors of some files; none where the system does not list them."""
    wanted = set(files)
    return tuple(found for found in _all() if found.file in wanted)


def identity(path: Path) -> Identity | None:
    """Return which file has a name, None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _all() -> Iterator[Held]:
    for number in _numbers():
        with suppress(OSError):  # such as that of the list itself
            yield held(number)


def _numbers() -> list[int]:
    for folder in FOLDERS:
        with suppress(OSError):
            return [int(name) for name in os.listdir(folder) if name.isdigit()]  # noqa: PTH208
    return []
