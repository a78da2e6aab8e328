"""How an answer comes from a socket: its head, and the pace of its body, each within limits.

A socket's own time limit is for one read. A peer that sends a byte now and then, or lines of which
no end is in sight, would keep a connection, and with it one of the cache's turns, for ever.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import time
from typing import Any

from ..errors import StorageError

MAX_OVERHEAD_BYTES = 1024 * 1024
"""Of a head with all the interim ones before it; of what frames a chunk of a body."""

SLOW_S = 60.0
SLOW_BYTES = 60 * 1024
"""Who gives less than so many bytes in so many seconds of waiting is given up."""


_LENGTH = re.compile(r"\d{1,18}", re.ASCII)


class Inlet(io.RawIOBase):
    """What comes from a socket.

    Args:
        seconds: That one step may take, however many reads it needs.
    """

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._sock = sock
        self._seconds = seconds
        self.begin_step(0)

    def begin_step(self, most_bytes: int) -> None:
        """Begin what has to be done in time, with ``most_bytes`` beside what frames them."""
        self._deadline = time.monotonic() + self._seconds
        self._left = most_bytes + MAX_OVERHEAD_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Read once.

        Raises:
            OSError, http.client.HTTPException: Nothing came, or the step takes too long or too much.
        """
        if self._left <= 0:
            raise http.client.LineTooLong("head or chunk")
        if time.monotonic() > self._deadline:
            raise TimeoutError
        count = self._sock.recv_into(buffer)
        self._left -= count
        return count

    def answer(self, method: str) -> http.client.HTTPResponse:
        """Read the head of the final answer; interim ones say nothing that we could use.

        Raises:
            OSError, http.client.HTTPException: It does not come, or is none.
        """
        self.begin_step(0)
        opened: Any = _Opened(io.BufferedReader(self))
        while True:
            raw = _Head(opened, method=method)
            raw.begin()
            if not 102 <= raw.status < 200:
                _require_clear_framing(raw)
                return raw
            raw.fp = None  # type: ignore[assignment] # which it would close: the next one needs it


class _Head(http.client.HTTPResponse):
    """An answer that may outlive its file: garbage is collected in any order."""

    def flush(self) -> None:
        """Do nothing: it is only read. Flushing a closed file fails, which Python 3.13 tells of."""


class UnclearFraming(http.client.HTTPException):
    """Where the body ends is said in no way, or in several, or in one that is not understood."""


def _require_clear_framing(raw: http.client.HTTPResponse) -> None:
    """Refuse what http.client reads up to some end: half a file would look like a whole one.

    Raises:
        UnclearFraming: RFC 9112, section 6.3, has it refused.
    """
    codings = ",".join(raw.headers.get_all("Transfer-Encoding", [])).lower().strip()
    lengths = {length.strip() for length in raw.headers.get_all("Content-Length", [])}
    if codings not in ("", "chunked", "identity") or len(lengths) > 1:
        raise UnclearFraming
    if not all(map(_LENGTH.fullmatch, lengths)):
        raise UnclearFraming


class _Opened:
    """What stands in for a socket with http.client: the same file for each head."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def makefile(self, mode: str) -> Any:
        return self._file


class Pace:
    """How fast a body comes, in time that is spent waiting for it."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._waited_s = 0.0
        self._bytes = 0

    def note(self, count: int, seconds: float) -> None:
        """Note a read.

        Raises:
            StorageError: All too little has come for a minute.
        """
        self._waited_s += seconds
        self._bytes += count
        if self._waited_s < SLOW_S:
            return
        if self._bytes < SLOW_BYTES and count:
            raise StorageError(
                f"{self._place} gave {self._bytes} bytes in {self._waited_s:.0f} seconds: that "
                "would never end."
            )
        self._waited_s, self._bytes = 0.0, 0
