"""What the cache has done since the process began."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(slots=True)
class Counts:
    """Numbers that only grow.

    Attributes:
        hits: Files that were there when they were wanted.
        misses: Files that had to be waited for.
        downloads: Downloads that brought a file.
        failures: Downloads that did not, but for those that nobody wanted any more.
        received_bytes: What downloads have received, those under way and those that failed too.
        evictions: Files deleted to make room.
        evicted_bytes: Their bytes.
    """

    hits: int = 0
    misses: int = 0
    downloads: int = 0
    failures: int = 0
    received_bytes: int = 0
    evictions: int = 0
    evicted_bytes: int = 0


class Held(NamedTuple):
    """What the cache holds now: cached files, and their bytes."""

    files: int
    bytes: int
