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

GROUP = 20
"""Readers that are woken at once; before the next are, the loop does what else is due."""


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
        self._waiting: dict[asyncio.Future[bool], None] = {}

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
        """Let the readers read on, a few at a time; call it on the loop."""
        waiting, self._waiting = list(self._waiting), {}
        self._release(waiting)

    async def follow(self, *, idle_s: float) -> AsyncGenerator[bytes | None, None]:
        """Yield the snapshot, then what comes, for ever.

        None is yielded when nothing has come for ``idle_s`` seconds.
        """
        seen = -1
        while True:
            number, events = self._number, self._since(seen)
            if events:
                seen = number
                yield events
                continue
            if not await self._has_news(idle_s):
                yield None

    async def _has_news(self, within_s: float) -> bool:
        """Wait for news; say whether they came in time. Cheaper than an event with a time limit."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._waiting[future] = None
        timer = loop.call_later(within_s, _settle, future, False)
        try:
            return await future
        finally:
            timer.cancel()
            self._waiting.pop(future, None)

    def _release(self, waiting: list[asyncio.Future[bool]]) -> None:
        for future in waiting[:GROUP]:
            _settle(future, True)
        if waiting[GROUP:]:
            asyncio.get_running_loop().call_soon(self._release, waiting[GROUP:])

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


def _settle(future: asyncio.Future[bool], came: bool) -> None:
    if not future.done():
        future.set_result(came)
