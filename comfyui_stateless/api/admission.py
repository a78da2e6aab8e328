"""Letting in graphs that come at once: in their order, with the event loop's other work between.

asyncio runs all handlers that are ready before it looks for what else has come. A thousand graphs
that arrive together would keep probes, and the answers of jobs that are done, waiting for all of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

FEW = 8
"""Jobs below which nobody is made to wait: so many graphs are read in some milliseconds."""

SLICE_S = 0.004
"""For how long graphs are read before the loop looks for other work."""

MOST = 16
"""Graphs that are read between two such looks, however quick it goes."""


class Admission:
    """Lets in who comes, first come, first served.

    While nobody waits this is a comparison. Else the loop is looked after by a callback of its own,
    which comes again as long as somebody waits: it comes after those who were let in before.

    Args:
        live: Gives how many jobs live.
        clock: Gives seconds that never go back.
    """

    def __init__(
        self, live: Callable[[], int], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._live = live
        self._clock = clock
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._comes_again = False
        self._began: float | None = None
        self._let_in = 0

    def is_open(self) -> bool:
        """Say whether the caller may go on; if not, he has to ``wait``."""
        if self._comes_again:
            return False
        if self._live() >= FEW:
            self._come_again()
        return True

    async def wait(self) -> None:
        """Return when it is the caller's turn."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        await place
        if self._began is None:
            self._began = self._clock()

    def _come_again(self) -> None:
        self._comes_again = True
        asyncio.get_running_loop().call_soon(self._let_in_next)

    def _let_in_next(self) -> None:
        room, self._let_in, self._began = self._room(), 0, None
        while self._waiting and self._let_in < room:
            place = self._waiting.popleft()
            if not place.done():  # cancelled
                place.set_result(None)
                self._let_in += 1
        self._comes_again = False
        if self._let_in:
            self._come_again()

    def _room(self) -> int:
        """Return how many to let in, by how long the last ones took."""
        if self._began is None:
            return 1
        took_s = self._clock() - self._began
        return max(1, min(MOST, int(self._let_in * SLICE_S / took_s))) if took_s else MOST
