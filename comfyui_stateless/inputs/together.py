"""Several things at once, of which none goes on once another has failed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


async def all_or_first_error(tasks: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Do all of ``tasks`` side by side; when one fails, cancel the others and raise its error.

    Of several errors at once the first in order is raised.
    """
    running = [asyncio.ensure_future(task) for task in tasks]
    try:
        if running:
            await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
        failed = next((t for t in running if t.done() and t.exception()), None)
        if failed is not None:
            failed.result()
        return [task.result() for task in running]
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
