"""Which positions are told: where hundreds wait, each end of a job changes those of all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

FRONT = 20
"""Jobs that come next, whose positions are told often."""

FRONT_S = 1.0
ALL_S = 10.0
"""Seconds between two times that positions are told, those of the front and those of all."""


class Positions:
    """Holds back changes of positions, so that telling them stays small however many jobs wait.

    Args:
        clock: Gives seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: Mapping[str, int] = {}
        self._front_at = self._all_at = float("-inf")

    def told(self, positions: Mapping[str, int]) -> Mapping[str, int]:
        """Return the positions to tell now: of a job that is new its own, else that or an older one.

        Args:
            positions: Those of this moment, by the jobs' own ids.
        """
        now, before = self._clock(), self._told
        if now - self._all_at >= ALL_S:
            self._told, self._all_at, self._front_at = dict(positions), now, now
            return self._told
        is_due = now - self._front_at >= FRONT_S
        if is_due:
            self._front_at = now
        self._told = {
            run: place if is_due and place < FRONT else before.get(run, place)
            for run, place in positions.items()
        }
        return self._told
