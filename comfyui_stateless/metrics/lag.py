"""How late the event loop is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

INTERVAL_S = 0.25


class LoopLag:
    """Measures, four times a second, how much later than asked the loop calls.

    Args:
        measured: Takes each number of seconds.
    """

    def __init__(self, measured: Callable[[float], None]) -> None:
        self._measured = measured
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, on the loop that runs."""
        loop = asyncio.get_running_loop()
        self._wait(loop)

    def stop(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + INTERVAL_S

        def called() -> None:
            self._measured(max(0.0, loop.time() - due))
            self._wait(loop)

        self._timer = loop.call_at(due, called)
