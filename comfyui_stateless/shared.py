"""Runs that go on by themselves while callers wait, join and leave.

So that a request can be watched while it runs, and sent twice under one Idempotency-Key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .engine import PromptResult
from .errors import ExecutionInterrupted, StatelessError
from .jobs import Job


class Waiter:
    """One caller who waits for a shared run; a context manager that is left when he has enough."""

    def __init__(self, result: asyncio.Future[PromptResult], leave: Callable[[], None]) -> None:
        self._result = result
        self._leave = leave
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def result(self) -> PromptResult:
        """Wait for the run's result, whose files stay until the waiter leaves.

        Raises:
            StatelessError: How the run failed, or why this caller waits no more.
        """
        ends: set[asyncio.Future[Any]] = {self._result, self._gone}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if self._gone.done():
            self._gone.result()
        return self._result.result()

    def stop(self, error: StatelessError) -> None:
        """Let this caller wait no more; the run goes on if there are others."""
        if not self._result.done() and not self._gone.done():
            self._gone.set_exception(error)
            self._gone.exception()  # looked at, also if he does not
            self._leave()


class SharedRun:
    """A job that runs in a task of its own; the last caller who leaves before its end stops it.

    Args:
        stop_when_left: Whether a run that nobody waits for is stopped.
    """

    def __init__(self, job: Job, *, stop_when_left: bool) -> None:
        self.job = job
        self._stop_when_left = stop_when_left
        self._waiting: set[Waiter] = set()
        self._left = asyncio.Event()
        self._is_stopped = False
        self._result: asyncio.Future[PromptResult] = asyncio.get_running_loop().create_future()

    @property
    def is_stopped(self) -> bool:
        """Whether everybody has left before the end, so that there is nothing to join."""
        return self._is_stopped

    @contextmanager
    def joined(self) -> Iterator[Waiter]:
        """Wait for the run inside the block."""
        waiter = Waiter(self._result, lambda: self._leave(waiter))
        self._waiting.add(waiter)
        self._left.clear()
        try:
            yield waiter
        finally:
            self._leave(waiter)

    def when_settled(self, call: Callable[[], object]) -> None:
        """Have ``call`` called when there is an outcome."""
        self._result.add_done_callback(lambda _: call())

    async def settled(self) -> None:
        """Wait until there is an outcome, whatever it is."""
        await asyncio.wait({self._result})

    async def settle(self, outcome: PromptResult | StatelessError) -> None:
        """Give the outcome to those who wait; return when all have left."""
        if isinstance(outcome, StatelessError):
            self._result.set_exception(outcome)
            self._result.exception()  # looked at, also if nobody waits
        else:
            self._result.set_result(outcome)
        while self._waiting:
            await self._left.wait()

    def _leave(self, waiter: Waiter) -> None:
        self._waiting.discard(waiter)
        if self._waiting:
            return
        self._left.set()
        if self._stop_when_left and not self._result.done():
            self._is_stopped = True
            self.job.stop(ExecutionInterrupted("The client closed the connection."))
