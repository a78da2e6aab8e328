"""What happens to a job, told as it happens, to as many listeners as there are.

Of what only the latest counts (a node's progress, a preview) only the latest is kept, so that a
timeline stays small however long the job is, and a slow listener misses nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
from collections.abc import AsyncGenerator, Hashable, Mapping
from typing import Any, NamedTuple


class Happening(NamedTuple):
    """One thing that happened.

    Attributes:
        number: Grows by one with each.
        name: Such as ``started`` or ``progress``.
        data: Plain values, for JSON.
    """

    number: int
    name: str
    data: Mapping[str, Any]


class Timeline:
    """The happenings of one job. Telling works on any thread, listening on the loop's.

    Attributes:
        token: Tells its numbers from those of the same job's timeline in another process.
    """

    def __init__(self) -> None:
        self.token = secrets.token_hex(4)
        self._lock = threading.Lock()
        self._kept: dict[Hashable, Happening] = {}
        self._count = 0
        self._over = False
        self._listeners: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    @property
    def is_followed(self) -> bool:
        """Whether anybody listens now."""
        return bool(self._listeners)

    def tell(self, name: str, data: Mapping[str, Any], *, instead_of: Hashable = None) -> None:
        """Tell what happened.

        Args:
            instead_of: What it is the latest of: an earlier one of the same is forgotten.
        """
        with self._lock:
            self._count += 1
            key = self._count if instead_of is None else (name, instead_of)
            self._kept.pop(key, None)
            self._kept[key] = Happening(self._count, name, data)
            self._wake()

    def close(self) -> None:
        """Tell the listeners that there is no more."""
        with self._lock:
            self._over = True
            self._wake()

    def after(self, number: int) -> list[Happening]:
        """Return what has happened since the happening with this number."""
        with self._lock:
            newest_first = reversed(self._kept.values())
            found = list(itertools.takewhile(lambda each: each.number > number, newest_first))
        return found[::-1]

    async def follow(
        self, after: int = 0, *, idle_s: float
    ) -> AsyncGenerator[Happening | None, None]:
        """Yield what happens, from the happening behind ``after`` until the end.

        None is yielded when nothing has happened for ``idle_s`` seconds.
        """
        news = asyncio.Event()
        with self._lock:
            self._listeners[news] = asyncio.get_running_loop()
        try:
            while True:
                news.clear()
                over = self._over
                for happening in self.after(after):
                    after = happening.number
                    yield happening
                if over:
                    return
                try:
                    await asyncio.wait_for(news.wait(), idle_s)
                except asyncio.TimeoutError:
                    yield None
        finally:
            with self._lock:
                del self._listeners[news]

    def _wake(self) -> None:
        for news, loop in self._listeners.items():
            loop.call_soon_threadsafe(news.set)
