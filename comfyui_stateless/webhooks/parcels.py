"""Messages on their way, whether a journal keeps them or only the memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ..journal import Content
from ..journal.journal import Journal
from ..storage.policy import Policy


class Book(Protocol):
    """Where a message comes from, and where it is noted what became of it."""

    async def body(self) -> Content: ...

    async def delivered(self) -> None: ...

    async def failed(self, wait_s: float, reason: str) -> None: ...

    async def given_up(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message on its way.

    Attributes:
        job: Messages of one job to one URL are sent in their order.
        retries: How often it is tried again.
        attempts: How many have failed so far.
        wait_s: Seconds until it is due.
    """

    message_id: str
    url: str = field(repr=False)
    job: str
    policy: Policy
    book: Book
    retries: int
    is_signed: bool = True
    attempts: int = 0
    wait_s: float = 0


@dataclass(frozen=True, slots=True)
class JournalBook:
    """Of a message that outlives the process."""

    journal: Journal
    message_id: str

    async def body(self) -> Content:
        return await self.journal.body(self.message_id)

    async def delivered(self) -> None:
        await self.journal.delivered(self.message_id)

    async def failed(self, wait_s: float, reason: str) -> None:
        await self.journal.record_attempt(self.message_id, wait_s, reason)

    async def given_up(self, reason: str) -> None:
        await self.journal.give_up(self.message_id, reason)


@dataclass(frozen=True, slots=True)
class MemoryBook:
    """Of a message that does not; its body is made when it is its turn."""

    take: Callable[[], bytes] = field(repr=False)

    async def body(self) -> Content:
        data = self.take()
        return Content(len(data), data=data)

    async def delivered(self) -> None:
        """Nothing is kept."""

    async def failed(self, wait_s: float, reason: str) -> None:
        """Nothing is kept."""

    async def given_up(self, reason: str) -> None:
        """Nothing is kept."""
