"""The latest of everything, as server-sent events, for as many readers as there are.

Each event is put into bytes once, whoever reads it. Of each key only the latest is kept: a reader
who is slow gets that, and not all that came before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from ..wire import to_json

KEPT = 2000
"""Events that are kept; a reader who is further behind begins anew."""


def frame(name: str, data: Mapping[str, Any]) -> bytes:
    """Return an event in its wire form."""
    return b"event: " + name.encode() + b"\ndata: " + to_json(data) + b"\n\n"


class Feed:
    """Events for readers on the loop.

    Args:
        snapshot: Gives, in its wire form, the event that has all that there is.
    """

    def __init__(self, snapshot: Callable[[], bytes]) -> None:
        self._make_snapshot = snapshot
        self._snapshot: bytes | None = None
        self._frames: dict[str, tuple[int, bytes]] = {}
        self._number = 0
        self._forgotten = 0
        self._latest: tuple[int, bytes] | None = None
        self._news = asyncio.Event()

    def put(self, key: str, name: str, data: Mapping[str, Any]) -> None:
        """Tell the latest of a key; ``wake`` the readers when all is told."""
        self._number += 1
        self._frames.pop(key, None)
        self._frames[key] = (self._number, frame(name, data))
        if len(self._frames) > KEPT:
            oldest = next(iter(self._frames))
            self._forgotten = self._frames.pop(oldest)[0]
        self._latest = self._snapshot = None

    def wake(self) -> None:
        """Let the readers read on."""
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self, *, idle_s: float) -> AsyncGenerator[bytes | None, None]:
        """Yield the snapshot, then what comes, for ever.

        None is yielded when nothing has come for ``idle_s`` seconds.
        """
        seen = -1
        while True:
            news = self._news
            number, events = self._number, self._since(seen)
            if events:
                seen = number
                yield events
                continue
            try:
                await asyncio.wait_for(news.wait(), idle_s)
            except asyncio.TimeoutError:
                yield None

    def _since(self, seen: int) -> bytes:
        """Return what a reader has to get who has seen events up to a number."""
        if seen < self._forgotten:
            return self._whole()
        if seen == self._number:
            return b""
        if self._latest is None or self._latest[0] != seen:
            self._latest = (seen, self._join(seen))
        return self._latest[1]

    def _whole(self) -> bytes:
        if self._snapshot is None:
            self._snapshot = self._make_snapshot()
        return self._snapshot

    def _join(self, seen: int) -> bytes:
        newer = []
        for number, event in reversed(self._frames.values()):
            if number <= seen:
                break
            newer.append(event)
        return b"".join(reversed(newer))
