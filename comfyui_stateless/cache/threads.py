"""The threads of the cache, and how the event loop waits for what they do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from ..storage.base import Cancel

T = TypeVar("T")


class Threads:
    """A pool for each kind of work, so that none waits for a kind that takes longer.

    Attributes:
        transfers: Hold a connection each.
        savers: Bring to the disk what has come.
        files: Look at files and change them.
        heads: Ask origins.
    """

    def __init__(self, transfers: int) -> None:
        self.transfers = _pool(transfers, "download")
        self.savers = _pool(2, "save")
        self.files = _pool(4, "files")
        self.heads = _pool(8, "head")

    def close(self) -> None:
        """Wait until what was begun is done, and end the threads."""
        for pool in (self.transfers, self.heads, self.savers, self.files):
            pool.shutdown()


def _pool(threads: int, name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix=f"stateless-cache-{name}")


async def run_to_end(
    pool: Executor,
    work: Callable[[], T],
    *,
    cancel: Cancel | None = None,
    undo: Callable[[T], object] | None = None,
) -> T:
    """Do ``work`` on a thread; when cancelled, wait until it has ended.

    So nothing of it goes on once the caller gives up what it holds for it.

    Args:
        cancel: Ends the work early.
        undo: Called with the result if nobody is there to take it.
    """
    future = asyncio.get_running_loop().run_in_executor(pool, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if cancel is not None:
            cancel.cancel()
        while not future.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        has_result = not future.cancelled() and future.exception() is None
        if has_result and undo is not None:
            undo(future.result())
        raise
