"""Whose turn it is: which of our prompts are in ComfyUI's queue, and which wait before it.

Jobs wait here and not in ComfyUI's queue, where a thousand waiting graphs slow every request
down and anybody's *clear* loses them. Two at a time are handed over: one runs, one is next. But a
run that counts its attempts is handed over only when nothing of ours is there: so it is counted
before it can begin, and what another run does to the process is no attempt at it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

from .errors import StatelessError

log = logging.getLogger("comfyui_stateless.turns")

PLACES = 2
"""Prompts that are in ComfyUI's queue at once; more do not raise throughput."""

Begun = Callable[[], Awaitable[None]]
"""Counts, when awaited, an attempt at a run."""


class Turn:
    """One of the places in ComfyUI's queue, held until it is released.

    Attributes:
        counts: Whether attempts at the run are counted.
        may_begin: Whether the run may be in ComfyUI's queue by now.
    """

    def __init__(self, run_id: str, release: Callable[[Turn], None], *, counts: bool) -> None:
        self.run_id = run_id
        self.counts = counts
        self.may_begin = not counts
        self._release: Callable[[Turn], None] | None = release

    def release(self) -> None:
        """Give the place to the next run. Calling it again changes nothing."""
        if self._release is not None:
            release, self._release = self._release, None
            release(self)


class Turns:
    """Hands out the places in ComfyUI's queue."""

    def __init__(self) -> None:
        self._handed: list[Turn] = []
        self._waiting: list[tuple[int, int, Turn, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._counts: Counter[int] = Counter()

    async def wait(
        self,
        run_id: str,
        priority: int,
        begun: Begun | None = None,
        wait: Callable[[int], object] = lambda position: None,
    ) -> Turn:
        """Wait for a place: higher priority first, then first come.

        Args:
            begun: Awaited before the place may be used; None where attempts are not counted.
            wait: Called with how many are before this one, if any.
        """
        turn = Turn(run_id, self._take_back, counts=begun is not None)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-priority, next(self._order), turn, future))
        self._counts[priority] += 1
        self._hand_out()
        if position := self._place_of_last(turn, priority):
            wait(position)
        try:
            await future
            if begun is not None:
                await self._begin(turn, begun)
        except BaseException:
            if turn in self._handed:
                turn.release()
            else:
                self._waits_no_more(priority)
            raise
        return turn

    def position(self, run_id: str) -> int | None:
        """Return how many of our runs are before this one, None if it does not wait."""
        for place, turn in enumerate(self._handed):
            if turn.run_id == run_id:
                return place
        waiting = (turn for _, _, turn, future in self._waiting if not future.done())
        mine = next((turn for turn in waiting if turn.run_id == run_id), None)
        return None if mine is None else self._place(mine)

    def positions(self) -> dict[str, int]:
        """Return how many of our runs are before each one, in their order."""
        waiting = sorted(entry[:3] for entry in self._waiting if not entry[3].done())
        turns = (*self._handed, *(turn for _, _, turn in waiting))
        return {turn.run_id: position for position, turn in enumerate(turns)}

    def _place_of_last(self, turn: Turn, priority: int) -> int:
        """Return how many of our runs are before the one that came last."""
        if turn in self._handed:
            return self._handed.index(turn)
        before = sum(count for other, count in self._counts.items() if other >= priority) - 1
        return len(self._handed) + before

    def _waits_no_more(self, priority: int) -> None:
        self._counts[priority] -= 1
        if not self._counts[priority]:
            del self._counts[priority]  # callers may give any number

    def _place(self, turn: Turn) -> int:
        """Return how many of our runs are before one; quicker than ``positions``."""
        if turn in self._handed:
            return self._handed.index(turn)
        mine = next(entry[:2] for entry in self._waiting if entry[2] is turn)
        before = sum(entry[:2] < mine for entry in self._waiting if not entry[3].done())
        return len(self._handed) + before

    async def _begin(self, turn: Turn, begun: Begun) -> None:
        try:
            await begun()
        except StatelessError as error:
            # It is run all the same: a refusal would help nobody.
            log.error("An attempt at run %s was not counted: %s", turn.run_id, error.message)
        turn.may_begin = True
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting:
            below, _, turn, future = self._waiting[0]
            if not future.done():
                if not self._has_place(turn):
                    return
                self._handed.append(turn)
                self._waits_no_more(-below)
                future.set_result(None)
            heapq.heappop(self._waiting)

    def _has_place(self, turn: Turn) -> bool:
        if not self._handed:
            return True
        # Not before the first may begin: they come into ComfyUI's queue in their order.
        return len(self._handed) < PLACES and not turn.counts and self._handed[0].may_begin

    def _take_back(self, turn: Turn) -> None:
        self._handed.remove(turn)
        self._hand_out()
