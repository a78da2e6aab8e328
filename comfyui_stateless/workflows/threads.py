"""Foreign code that may never come back, or tries to end the process: waited for up to a limit."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

T = TypeVar("T")


class TookTooLong(Exception):
    """The code was not done within its limit."""


async def in_own_thread(work: Callable[[], T], limit_s: float) -> T:
    """Return what ``work`` returns; a thread that hangs is left behind, and keeps nobody waiting.

    The threads that everybody shares would run out if such work got stuck in them.

    Raises:
        TookTooLong: It takes more than ``limit_s`` seconds.
        Exception: What ``work`` raises; a RuntimeError for what would end the process.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            settle = partial(done.set_result, context.run(work))
        except BaseException as error:  # noqa: BLE001  it belongs to whoever waits
            settle = partial(done.set_exception, _harmless(error))
        if not loop.is_closed():
            loop.call_soon_threadsafe(lambda: done.done() or settle())

    threading.Thread(target=run, name="workflow", daemon=True).start()
    await asyncio.wait({done}, timeout=limit_s)
    return _result(done)


async def within(work: Awaitable[T], limit_s: float) -> T:
    """Return what ``work`` gives.

    Raises:
        TookTooLong: It takes more than ``limit_s`` seconds; it is cancelled, and not waited for.
        Exception: What it raises; a RuntimeError for what would end the process.
    """

    async def guarded() -> T:
        try:
            return await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  SystemExit in a task would end the loop
            raise _harmless(error) from None

    task = asyncio.ensure_future(guarded())
    try:
        await asyncio.wait({task}, timeout=limit_s)
        return _result(task)
    finally:
        task.cancel()


def _result(done: asyncio.Future[T]) -> T:
    if not done.done():
        done.cancel()
        raise TookTooLong
    if done.cancelled():
        raise RuntimeError("it was cancelled")
    return done.result()


def _harmless(error: BaseException) -> Exception:
    """Return an error that tasks and futures can hold without harm to anybody else."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    if isinstance(error, SystemExit):
        text = f"it calls sys.exit({'' if error.code is None else repr(error.code)})"
    else:
        text = f"it raises {type(error).__name__}"
    return RuntimeError(text).with_traceback(error.__traceback__)
