"""Whose turn it is: which of our prompts are in ComfyUI's queue, and which wait before it.

Jobs wait here and not in ComfyUI's queue, where a thousand waiting graphs slow every request
down and anybody's *clear* loses them. Two at a time are handed over: one runs, one is next.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Awaitable, Callable

from .errors import StatelessError

log = logging.getLogger("comfyui_stateless.turns")

PLACES = 2
"""Prompts that are in ComfyUI's queue at once; more do not raise throughput."""

Begun = Callable[[], Awaitable[None]]
"""Notes, when awaited, that a run is about to begin."""


class Turn:
    """One of the places in ComfyUI's queue, held until it is released."""

    def __init__(self, run_id: str, release: Callable[[Turn], None], begun: Begun | None) -> None:
        self.run_id = run_id
        self._release: Callable[[Turn], None] | None = release
        self._begun = begun
        self._beginning: asyncio.Task[None] | None = None

    def release(self) -> None:
        """Give the place to the next run. Calling it again changes nothing."""
        if self._release is not None:
            release, self._release = self._release, None
            release(self)

    def begin(self) -> asyncio.Task[None] | None:
        """Have it noted, once, that the run is about to begin; return what does so, if anything."""
        if self._begun is not None:
            begun, self._begun = self._begun, None
            self._beginning = asyncio.ensure_future(self._noted(begun))
        return self._beginning

    async def _noted(self, begun: Begun) -> None:
        try:
            await begun()
        except StatelessError as error:
            # It is run all the same: a refusal would help nobody.
            log.error("An attempt at run %s was not counted: %s", self.run_id, error.message)


class Turns:
    """Hands out the places in ComfyUI's queue."""

    def __init__(self) -> None:
        self._handed: list[Turn] = []
        self._waiting: list[tuple[int, int, Turn, asyncio.Future[None]]] = []
        self._order = itertools.count()

    async def wait(
        self,
        run_id: str,
        priority: int,
        begun: Begun | None = None,
        wait: Callable[[int], object] = lambda position: None,
    ) -> Turn:
        """Wait for a place: higher priority first, then first come.

        Args:
            begun: Awaited before the place may be used if nothing of ours runs before it, else as
                soon as that has ended: what another run does to the process is no attempt at
                this one.
            wait: Called with how many are before this one, if any.
        """
        turn = Turn(run_id, self._take_back, begun)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-priority, next(self._order), turn, future))
        self._hand_out()
        if position := self.position(run_id):
            wait(position)
        try:
            await future
            await self._first_begun(turn)
        except BaseException:
            if turn in self._handed:
                turn.release()
            raise
        return turn

    def position(self, run_id: str) -> int | None:
        """Return how many of our runs are before this one, None if it does not wait."""
        waiting = sorted(entry[:3] for entry in self._waiting if not entry[3].done())
        turns = [*self._handed, *(turn for _, _, turn in waiting)]
        return next((n for n, turn in enumerate(turns) if turn.run_id == run_id), None)

    async def _first_begun(self, turn: Turn) -> None:
        """Return when it is noted of the first that was handed over, this or another, that it begins.

        So they come into ComfyUI's queue in the order in which they were handed over.
        """
        while True:
            first = self._handed[0]
            beginning = first.begin()
            if beginning is not None and not beginning.done():
                await asyncio.wait({beginning})
            if first in (turn, self._handed[0]):
                return

    def _hand_out(self) -> None:
        while len(self._handed) < PLACES and self._waiting:
            _, _, turn, future = heapq.heappop(self._waiting)
            if not future.done():
                self._handed.append(turn)
                future.set_result(None)

    def _take_back(self, turn: Turn) -> None:
        self._handed.remove(turn)
        self._hand_out()
        if self._handed:
            self._handed[0].begin()
