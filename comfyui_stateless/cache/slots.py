"""How many connections downloads may have at once, and whose turn it is."""

from __future__ import annotations

import asyncio
import threading
from collections import deque


class Slots:
    """A bounded number of connections; whoever waits goes before those who want one more.

    ``acquire`` is for the event loop; the others may be called from any thread.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._mutex = threading.Lock()
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def is_contended(self) -> bool:
        """Whether somebody waits, so that who has two should give one back."""
        return bool(self._waiting)

    async def acquire(self) -> None:
        """Wait for a connection, first come first served."""
        with self._mutex:
            if self._free > 0:
                self._free -= 1
                return
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            self._leave(turn)
            raise

    def try_acquire(self) -> bool:
        """Take a connection if one is free and nobody waits for it."""
        with self._mutex:
            has_one = self._free > 0 and not self._waiting
            self._free -= has_one
            return has_one

    def release(self) -> None:
        """Give a connection back."""
        with self._mutex:
            if not self._waiting:
                self._free += 1
                return
            turn = self._waiting.popleft()
        turn.get_loop().call_soon_threadsafe(self._hand_over, turn)

    def _hand_over(self, turn: asyncio.Future[None]) -> None:
        if turn.done():
            self.release()
        else:
            turn.set_result(None)

    def _leave(self, turn: asyncio.Future[None]) -> None:
        if turn.done() and not turn.cancelled():
            self.release()
            return
        with self._mutex:
            if turn in self._waiting:
                self._waiting.remove(turn)
