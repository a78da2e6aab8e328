"""Stopping the jobs of clients that hang up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from aiohttp import web

from ..errors import ExecutionInterrupted, StatelessError

INTERVAL_S = 0.1


class Stoppable(Protocol):
    """A job, or one caller's wait for it."""

    def stop(self, error: StatelessError) -> None: ...


class Disconnects:
    """Looks at the connections of all waiting requests at once, while there are any.

    Args:
        enabled: CANCEL_ON_DISCONNECT.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._watched: dict[Stoppable, web.Request] = {}
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def watch(self, request: web.Request, job: Stoppable) -> Iterator[None]:
        """Stop ``job`` if the client of ``request`` hangs up inside the block."""
        if not self._enabled:
            yield
            return
        self._watched[job] = request
        self._schedule()
        try:
            yield
        finally:
            del self._watched[job]

    def _schedule(self) -> None:
        if self._timer is None and self._watched:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        for job, request in list(self._watched.items()):
            if is_gone(request):
                job.stop(ExecutionInterrupted("The client closed the connection."))
        self._schedule()


def is_gone(request: web.BaseRequest) -> bool:
    """Say whether nobody is left to read the response."""
    return request.transport is None or request.transport.is_closing()
