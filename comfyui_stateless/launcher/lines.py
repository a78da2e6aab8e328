"""A program's output as lines, each with a level where one can be told."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator

LONGEST_BYTES = 16 * 1024
"""Where a line is cut."""

PROGRESS_S = 2.0
"""How often a line that is overwritten again and again, such as a progress bar, is told."""

_PARTS = re.compile(rb"[^\r\n]+|\r|\n")


class Lines:
    """Cuts a stream of bytes into lines; at most one line is held."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held = bytearray()
        self._cut = 0
        self._returned = False
        self._told = -PROGRESS_S

    def feed(self, data: bytes) -> Iterator[str]:
        """Yield the lines that end in ``data``."""
        for part in _PARTS.findall(data):
            if part == b"\n":
                yield self._take()
            elif part == b"\r":
                self._returned = True
            else:
                if self._returned and self._is_due():
                    yield self._take()
                self._add(part)

    def rest(self) -> Iterator[str]:
        """Yield what came after the last end of a line."""
        if self._held:
            yield self._take()

    def _add(self, part: bytes) -> None:
        if self._returned:
            self._clear()
        room = LONGEST_BYTES - len(self._held)
        self._held += part[:room]
        self._cut += max(0, len(part) - room)

    def _is_due(self) -> bool:
        now = self._clock()
        if not self._held or now - self._told < PROGRESS_S:
            return False
        self._told = now
        return True

    def _take(self) -> str:
        line = self._held.decode("utf-8", "replace")
        if self._cut:
            line += f" … ({self._cut} bytes left out)"
        self._clear()
        return line

    def _clear(self) -> None:
        self._held.clear()
        self._cut, self._returned = 0, False


_PREFIX = re.compile(
    r"\s{0,2}(?:\d{4}-\d\d-\d\d[T ][\d:.,+Z-]+\s+)?[\[(]?"
    r"(TRACE|DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL|FATAL)[\])]?(?:[:\s-]|$)",
    re.IGNORECASE,
)
_LEVELS = {
    "TRACE": logging.DEBUG,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
    "FATAL": logging.CRITICAL,
}


class Levels:
    """Tells the levels of ComfyUI's lines, most of which do not name theirs."""

    def __init__(self) -> None:
        self._in_traceback = False

    def of(self, line: str) -> int | None:
        """Return the level of the next line, None where it cannot be told."""
        if line.startswith("Traceback (most recent call last)"):
            self._in_traceback = True
            return logging.ERROR
        if self._in_traceback:
            # The last line of a traceback is the first that is not indented: the exception.
            self._in_traceback = not line or line[0].isspace()
            return logging.ERROR
        if line.startswith("!!! Exception during processing"):
            return logging.ERROR
        named = _PREFIX.match(line)
        return _LEVELS[named.group(1).upper()] if named else None
