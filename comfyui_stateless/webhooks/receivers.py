"""Turns: how many messages are under way, so that one slow receiver delays nobody else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

MAX_CONNECTIONS = 256
"""Of all receivers together."""

MAX_PER_RECEIVER = 4


class Receiver:
    """An origin that messages go to. While it fails, it gets one message at a time."""

    def __init__(self) -> None:
        self.is_failing = False
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait, first come first served, until one more message may be under way."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._admit()
        try:
            await future
            yield
        finally:
            if future.done() and not future.cancelled():
                self._running -= 1
            self._admit()

    def _admit(self) -> None:
        limit = 1 if self.is_failing else MAX_PER_RECEIVER
        while self._waiting and self._running < limit:
            future = self._waiting.popleft()
            if not future.done():
                self._running += 1
                future.set_result(None)


class Receivers:
    """The receivers that messages are on their way to, and the lanes to them.

    The messages of one lane, such as one job's to one URL, go one after the other, in their
    order. One that failed steps aside until it is tried again.
    """

    def __init__(self) -> None:
        self._receivers: WeakValueDictionary[str, Receiver] = WeakValueDictionary()
        self._lanes: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._connections = asyncio.Semaphore(MAX_CONNECTIONS)

    def receiver(self, origin: str) -> Receiver:
        """Return the receiver of an origin; it is remembered as long as somebody holds it."""
        return self._receivers.setdefault(origin, Receiver())

    def lane(self, job: str, url: str) -> asyncio.Lock:
        """Return the lane of a job to a URL; it is remembered as long as somebody holds it."""
        return self._lanes.setdefault((job, url), asyncio.Lock())

    @asynccontextmanager
    async def turn(self, receiver: Receiver, lane: asyncio.Lock) -> AsyncIterator[None]:
        """Wait until the next message of a lane may be sent."""
        async with lane, receiver.turn(), self._connections:
            yield
