"""What a ComfyUI process is told from outside while it runs: its clock, and how slow a disk is."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FOLDER = Path(__file__).with_name("clock")


class Clock:
    """The clock of the processes that are started with ``environment``.

    Args:
        file: Says how far it is ahead.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._commits = file.with_name(f"{file.name}-commits")
        for each in (self._file, self._commits):
            each.write_bytes(bytes(8))

    @property
    def environment(self) -> dict[str, str]:
        files = {"CHAOS_CLOCK": str(self._file), "CHAOS_COMMITS": str(self._commits)}
        return {"PYTHONPATH": str(_FOLDER), **files}

    def jump(self, seconds: float) -> None:
        """Be this far ahead of the true time from now on; behind it, where that is negative."""
        _tell(self._file, seconds)

    @contextmanager
    def slow_commits(self, seconds: float) -> Iterator[None]:
        """Have each transaction take this long to get onto the disk, for the block."""
        _tell(self._commits, seconds)
        try:
            yield
        finally:
            _tell(self._commits, 0)


def _tell(file: Path, number: float) -> None:
    with file.open("r+b") as opened:
        opened.write(struct.pack("<d", number))
