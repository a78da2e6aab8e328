"""Fetches under way in this process: one for each file, however many wait for it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from ..storage.base import Cancel, Cancelled

T = TypeVar("T")
U = TypeVar("U")


class Flight(Generic[T]):
    """A fetch that several may wait for; it ends when the last one leaves.

    Args:
        terms: What it is fetched as. Only who wants it on the same terms may share it.
        work: Fetches; given the token that stops it.
        dispose: Called with the result once nobody waits any more.

    Attributes:
        terms: As given.
        cancel: Set when nobody wants it any more.
    """

    def __init__(
        self,
        terms: Hashable,
        work: Callable[[Cancel], Awaitable[T]],
        dispose: Callable[[T], None],
    ) -> None:
        self.terms = terms
        self.cancel = Cancel()
        self._dispose = dispose
        self._waiting = 0
        self._task = asyncio.ensure_future(self._run(work))

    async def _run(self, work: Callable[[Cancel], Awaitable[T]]) -> T | _Failed:
        """Return an error as a value: nobody may be left to take it."""
        try:
            result = await work(self.cancel)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - each who waits gets it
            return _Failed(error)
        if not self._waiting:
            self._dispose(result)
        return result

    @property
    def can_be_joined(self) -> bool:
        """Whether it still flies, and is to arrive."""
        return not (self._task.done() or self.cancel.is_set)

    async def wait(self, use: Callable[[T], U]) -> U:
        """Wait until it ends and return what ``use`` makes of its result; to be cancelled is to leave.

        Raises:
            StorageError: How it failed.
            Cancelled: It was abandoned.
        """
        self._waiting += 1
        try:
            outcome = await asyncio.shield(self._task)
            if isinstance(outcome, _Failed):
                raise outcome.for_one() from outcome.error
            return use(outcome)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._last_left()

    def _last_left(self) -> None:
        if not self._task.done():
            self.abandon()
        elif not isinstance(outcome := self._task.result(), _Failed):
            self._dispose(outcome)

    async def ended(self) -> None:
        """Wait until it ends, in whatever way, without keeping it up."""
        await asyncio.wait([self._task])

    def abandon(self) -> None:
        """End it; what it has fetched stays for the next one."""
        self.cancel.cancel()
        self._task.cancel()


class _Failed:
    """How a flight failed."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def for_one(self) -> BaseException:
        """Return the error for one of those who wait: each adds to it where he met it."""
        if isinstance(self.error, asyncio.CancelledError):
            return Cancelled()
        return copy.copy(self.error)


class Flights(Generic[T]):
    """The flights, by key."""

    def __init__(self) -> None:
        self._flights: dict[str, Flight[T]] = {}
        self._landing: set[Flight[T]] = set()

    def get(self, key: str) -> Flight[T] | None:
        """Return the flight of a key, if it can still be joined."""
        flight = self._flights.get(key)
        return flight if flight is not None and flight.can_be_joined else None

    def start(
        self,
        key: str,
        terms: Hashable,
        work: Callable[[Cancel], Awaitable[T]],
        dispose: Callable[[T], None],
    ) -> Flight[T]:
        """Begin the flight of a key; one that was abandoned may still be landing."""

        async def tracked(cancel: Cancel) -> T:
            try:
                return await work(cancel)
            finally:
                self._landing.discard(flight)
                if self._flights.get(key) is flight:
                    del self._flights[key]

        flight = Flight(terms, tracked, dispose)
        self._flights[key] = flight
        self._landing.add(flight)
        return flight

    async def close(self) -> None:
        """Abandon all flights and wait until they have ended."""
        flights = list(self._landing)
        for flight in flights:
            flight.abandon()
        for flight in flights:
            await flight.ended()
