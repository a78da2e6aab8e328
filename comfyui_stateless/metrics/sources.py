"""What has to be asked for: disks, databases and drivers, none of which may hold a scrape up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

log = logging.getLogger("comfyui_stateless.metrics")

WITHIN_S = 2.0
"""Seconds that a source has to answer; a scrape goes without one that is slower."""

T = TypeVar("T")


class Source(Generic[T]):
    """Something that is asked once at a time, however many wait for the answer.

    Args:
        ask: Gives the answer.
        failed: Called with the name when there was none.
    """

    def __init__(
        self, name: str, ask: Callable[[], Awaitable[T]], failed: Callable[[str], None]
    ) -> None:
        self._name = name
        self._ask = ask
        self._failed = failed
        self._asking: asyncio.Task[T | None] | None = None

    async def read(self) -> T | None:
        """Return the answer; None if it fails or is not there in time."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._answer())
        asking = self._asking
        done, _ = await asyncio.wait({asking}, timeout=WITHIN_S)
        if not done:
            self._give_up("it does not answer")
            return None
        return None if asking.cancelled() else asking.result()

    async def close(self) -> None:
        """Wait for no answer any more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    async def _answer(self) -> T | None:
        try:
            return await self._ask()
        except Exception as error:  # noqa: BLE001 - whatever it is, the other numbers are wanted
            self._give_up(str(error))
            return None

    def _give_up(self, reason: str) -> None:
        log.warning("The %s cannot be asked for its numbers: %s", self._name, ascii(reason))
        self._failed(self._name)
