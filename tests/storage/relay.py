"""A relay between a client and a real server that stalls, or hangs up, after so many bytes."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit

CHUNK_BYTES = 16 * 1024

_Ends = tuple[socket.socket, socket.socket]


class Relay:
    """Passes on what either side sends, over each connection no more than its limits.

    Args:
        target: The origin of the server, such as ``http://127.0.0.1:80``.
        up: Bytes that a connection passes on to the server; None is all of them.
        down: The same to the client.
        then: What happens to a connection at its limit.

    Attributes:
        origin: Where the relay is to be reached.
        at_limit: Set as soon as a connection has reached a limit.
    """

    def __init__(
        self,
        target: str,
        *,
        up: int | None = None,
        down: int | None = None,
        then: Literal["stall", "cut"] = "stall",
    ) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 80)
        self._up, self._down, self._then = up, down, then
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: dict[_Ends, int] = {}
        self._mutex = threading.Lock()
        self._is_over = threading.Event()
        self.origin = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.at_limit = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End every connection, and take no more."""
        self._is_over.set()
        _hang_up(self._listener)
        self._listener.close()
        self.break_off()

    def break_off(self) -> None:
        """End every connection there is; new ones are taken."""
        with self._mutex:
            for ends in self._open:
                for end in ends:
                    _hang_up(end)

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            ends = client, server
            with self._mutex:
                self._open[ends] = len(ends)
            for way in ((client, server, self._up), (server, client, self._down)):
                threading.Thread(target=self._carry, args=(ends, *way), daemon=True).start()

    def _carry(
        self, ends: _Ends, source: socket.socket, sink: socket.socket, limit: int | None
    ) -> None:
        self._pass_on(source, sink, limit)
        _hang_up(sink)
        with self._mutex:
            self._open[ends] -= 1
            if not self._open[ends]:
                del self._open[ends]
                for end in ends:
                    end.close()

    def _pass_on(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        passed = 0
        with suppress(OSError):
            while limit is None or passed < limit:
                chunk = source.recv(CHUNK_BYTES if limit is None else limit - passed)
                if not chunk:
                    _hang_up(sink)
                    return
                sink.sendall(chunk)
                passed += len(chunk)
            self.at_limit.set()
            if self._then == "cut":
                _break(source)
                _break(sink)
            else:
                self._is_over.wait()


@contextmanager
def relay(
    target: str,
    *,
    up: int | None = None,
    down: int | None = None,
    then: Literal["stall", "cut"] = "stall",
) -> Iterator[Relay]:
    """Give a relay for the block."""
    between = Relay(target, up=up, down=down, then=then)
    try:
        yield between
    finally:
        between.close()


class _Changing(Relay):
    def __init__(self, target: str, old: bytes, new: bytes) -> None:
        self._old, self._new = old, new
        super().__init__(target)

    def _pass_on(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK_BYTES):
                sink.sendall(chunk.replace(self._old, self._new, 1))
            _hang_up(sink)


@contextmanager
def changing(target: str, old: bytes, new: bytes) -> Iterator[str]:
    """Give the origin of a relay that puts ``new`` in place of ``old`` in what it passes on."""
    between = _Changing(target, old, new)
    try:
        yield between.origin
    finally:
        between.close()


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


def _break(end: socket.socket) -> None:
    """End a connection with a reset: its peer may be writing, and would not see a mere end."""
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    _hang_up(end)
    end.close()
