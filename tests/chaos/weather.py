"""A network between two ends that drops, stalls, corrupts and reorders, as a seed says.

It may also speak for the server: with a refusal, or with an answer that ends in its middle.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.storage.relay import Relay, _break, _hang_up

PIECE_BYTES = 700
"""Small: an answer is to be hit in its middle too."""

STALL_S = 2.0


class Weather(Relay):
    """A relay of which each connection may have bad luck; at first the weather is fine.

    Attributes:
        hits: How often something went wrong.
    """

    def __init__(self, target: str, seed: int) -> None:
        self._chance = random.Random(seed)
        self._kinds: tuple[str, ...] = ()
        self._share = 0.0
        self.hits = 0
        super().__init__(target)

    @contextmanager
    def of(self, *kinds: str, share: float = 0.3) -> Iterator[None]:
        """Have a share of all connections go wrong in one of these ways, for the block."""
        self._kinds, self._share = kinds, share
        self.break_off()
        try:
            yield
        finally:
            self._kinds = ()
            self.break_off()

    def _pass_on(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        pieces, is_spared = 0, False
        with suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                kind = (
                    None
                    if is_spared
                    else self._luck(pieces, is_answer=piece.startswith(b"HTTP/1."))
                )
                if kind in _ENDS:
                    sink.sendall(_ENDS[kind](piece, self._chance))
                    end = _break if kind == "drop" else _hang_up
                    end(sink)
                    end(source)
                    return
                # Once only: a digest finds what is wrong, unless it was hit as well.
                is_spared = is_spared or kind is not None
                sink.sendall(_BAD[kind](piece, source, self._chance) if kind else piece)
                pieces += 1
            _hang_up(sink)

    def _luck(self, pieces: int, *, is_answer: bool) -> str | None:
        """Say what happens to the next piece; later ones are spared ever more often."""
        # A head is never corrupted: nothing vouches for it, and a longer length is waited for.
        kinds = [kind for kind in self._kinds if pieces or kind != "corrupt"]
        if not is_answer:
            kinds = [kind for kind in kinds if kind not in ("refuse", "halve")]
        if not kinds or self._chance.random() >= self._share / (1 + pieces / 4):
            return None
        self.hits += 1
        return self._chance.choice(kinds)


def _stalled(piece: bytes, _: socket.socket, chance: random.Random) -> bytes:
    time.sleep(chance.uniform(0, STALL_S))
    return piece


def _corrupted(piece: bytes, _: socket.socket, chance: random.Random) -> bytes:
    changed = bytearray(piece)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _reordered(piece: bytes, source: socket.socket, _: random.Random) -> bytes:
    """Give the next piece first, where there is one soon."""
    source.settimeout(0.05)
    try:
        following = source.recv(PIECE_BYTES)
    except TimeoutError:
        following = b""
    finally:
        source.settimeout(None)
    return following + piece


_BAD: dict[str, Callable[[bytes, socket.socket, random.Random], bytes]] = {
    "stall": _stalled,
    "corrupt": _corrupted,
    "reorder": _reordered,
}


def _refused(_: bytes, chance: random.Random) -> bytes:
    status = chance.choice((403, 429, 500, 503))
    head = f"HTTP/1.1 {status} No\r\nContent-Length: 2\r\nConnection: close\r\n"
    return f"{head}Retry-After: 1\r\n\r\nno".encode()


def _halved(piece: bytes, chance: random.Random) -> bytes:
    return piece[: chance.randrange(1, len(piece) + 1)]


_ENDS: dict[str | None, Callable[[bytes, random.Random], bytes]] = {
    "drop": lambda *_: b"",
    "refuse": _refused,
    "halve": _halved,
}


@contextmanager
def weather(target: str, seed: int) -> Iterator[Weather]:
    """Give a network to a server."""
    between = Weather(target, seed)
    try:
        yield between
    finally:
        between.close()
