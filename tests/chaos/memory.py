"""A system without memory to spare, as one process sees it."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.limits import held_to

SIDE = 16_384
"""Of a picture of 3.2 GB, the largest that ComfyUI makes empty."""

ROOM_BYTES = 2 * 2**30


@contextmanager
def limited(pid: int) -> Iterator[None]:
    """Let a process have little more address space than it has now, for the block."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    with held_to(pid, resource.RLIMIT_AS, pages * resource.getpagesize() + ROOM_BYTES):
        yield
