"""Waiting for what happens elsewhere, and looking at what lies in a folder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from comfyui_stateless.cache import Cache

T = TypeVar("T")


async def until(look: Callable[[], T]) -> T:
    """Wait, for 20 seconds at most, until ``look`` sees something; return that."""
    for _ in range(2000):
        if seen := look():
            return seen
        await asyncio.sleep(0.01)
    raise AssertionError("It did not happen.")


def has_begun(cache: Cache, more_than: int = 0) -> Callable[[], bool]:
    """Return what sees whether a download has brought ``more_than`` bytes."""
    return lambda: any(progress.bytes > more_than for progress in cache.downloads())


def names(folder: Path, pattern: str = "*") -> set[str]:
    """Return the names of the files in a folder."""
    return {path.name for path in folder.glob(pattern)}


def endings(folder: Path) -> set[str]:
    """Return how the files in a cache's folder end, but for locks."""
    return {path.suffix for path in folder.iterdir()} - {".lock"}
