"""The descriptors without which this process serves nobody: a node may close all there are.

The event loop would wait for what never comes, or end with an error that names no cause.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from ..journal.descriptors import Held, held

LOOK_EVERY_S = 0.5

GONE = "A node has closed descriptors that this process's server needs."


class Descriptors:
    """Knows the descriptors of the event loop, and the sockets that the server listens on.

    Args:
        end: Ends the process; is told why it is of no use any more, on another thread than the
            loop's, or when the process ends for that reason anyway.
    """

    def __init__(self, end: Callable[[str], None]) -> None:
        self._end = end
        self._waits_with: tuple[Held, ...] = ()
        self._listens_on: tuple[Held, ...] = ()

    def watch(self) -> None:
        """Begin to watch, once the server listens; called on the event loop's thread."""
        if self._listens_on:
            return
        loop = asyncio.get_running_loop()
        self._listens_on = tuple(map(held, _listening(loop)))
        if self._listens_on:
            self._waits_with = tuple(map(held, _own(loop)))
            name = "stateless-descriptors"
            threading.Thread(target=self._watched, args=(loop,), name=name, daemon=True).start()
            atexit.register(self._look, loop)

    def _watched(self, loop: asyncio.AbstractEventLoop) -> None:
        # A thread of its own: the loop may hear of nothing any more.
        while not loop.is_closed() and self._look(loop):
            time.sleep(LOOK_EVERY_S)

    def _look(self, loop: asyncio.AbstractEventLoop) -> bool:
        needed = () if loop.is_closed() else self._waits_with
        if loop.is_running():  # who stops it may close what it listens on
            needed += self._listens_on
        is_fine = all(each.is_held for each in needed)
        if not is_fine:
            self._end(GONE)
        return is_fine


def _own(loop: Any) -> Iterator[int]:
    """Yield the descriptors that a loop of the standard library waits with, and is woken by."""
    for name in ("_selector", "_ssock", "_csock"):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            yield getattr(loop, name).fileno()


def _listening(loop: Any) -> Iterator[int]:
    """Yield the descriptors of the sockets that a loop takes connections from."""
    selector = getattr(loop, "_selector", None)
    for number in list(selector.get_map()) if selector is not None else ():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as copy:
            if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                yield number
