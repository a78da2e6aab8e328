"""Limits of a process that are set from outside while it runs."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

AGAIN_S = 0.001


@contextmanager
def held_to(pid: int, kind: int, most: int) -> Iterator[None]:
    """Hold a process to a limit for the block, also where it sets its own again.

    It does so after each prompt: whether a node has changed a limit, or an operator, it cannot know.
    """
    before = resource.prlimit(pid, kind)
    is_over = threading.Event()

    def hold() -> None:
        with suppress(ProcessLookupError):
            while not is_over.wait(AGAIN_S):
                resource.prlimit(pid, kind, (most, before[1]))

    resource.prlimit(pid, kind, (most, before[1]))
    holding = threading.Thread(target=hold)
    holding.start()
    try:
        yield
    finally:
        is_over.set()
        holding.join()
        resource.prlimit(pid, kind, before)
