"""A clock that jumps: that of a ComfyUI process, set from outside while it runs."""

from __future__ import annotations

import struct
from pathlib import Path

_FOLDER = Path(__file__).with_name("clock")


class Clock:
    """The clock of the processes that are started with ``environment``.

    Args:
        file: Says how far it is ahead.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._file.write_bytes(bytes(8))

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(_FOLDER), "CHAOS_CLOCK": str(self._file)}

    def jump(self, seconds: float) -> None:
        """Be this far ahead of the true time from now on; behind it, where that is negative."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("<d", seconds))
