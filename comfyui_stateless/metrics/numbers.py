"""Counting, without a library: importing Prometheus's would cost ComfyUI's start 10 to 15 ms."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

Labels = tuple[str, ...]
"""The values of a number's labels, in the order of their names."""


class Tally:
    """Counts by labels; any thread may add.

    Args:
        known: Labels that are there from the beginning, with 0: an alert on a first occurrence
            needs that.
    """

    def __init__(self, known: Iterable[Labels] = ()) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Labels, float] = dict.fromkeys(known, 0)

    def add(self, *labels: str, amount: float = 1) -> None:
        """Add to what the labels have."""
        with self._lock:
            self._counts[labels] = self._counts.get(labels, 0) + amount

    def read(self) -> Mapping[Labels, float]:
        """Return the counts of this moment."""
        with self._lock:
            return dict(self._counts)


class Spread(NamedTuple):
    """How values fell.

    Attributes:
        counts: How many were at most each bound, and how many there were at all.
        sum: Of all values.
    """

    counts: tuple[int, ...]
    sum: float


class Distribution:
    """Counts, by labels, into which range values fall; any thread may add.

    Args:
        bounds: The upper ends of the ranges, ascending; there is one more range, without an end.
        known: Labels that are there from the beginning.
    """

    def __init__(self, bounds: Sequence[float], known: Iterable[Labels] = ()) -> None:
        self.bounds = tuple(bounds)
        self._lock = threading.Lock()
        self._ranges: dict[Labels, list[int]] = {labels: self._empty() for labels in known}
        self._sums: dict[Labels, float] = dict.fromkeys(self._ranges, 0.0)

    def add(self, value: float, *labels: str) -> None:
        """Count a value."""
        with self._lock:
            ranges = self._ranges.setdefault(labels, self._empty())
            ranges[bisect_left(self.bounds, value)] += 1
            self._sums[labels] = self._sums.get(labels, 0.0) + value

    def read(self) -> Mapping[Labels, Spread]:
        """Return how the values fell until this moment."""
        with self._lock:
            return {
                labels: Spread(_running_totals(ranges), self._sums[labels])
                for labels, ranges in self._ranges.items()
            }

    def _empty(self) -> list[int]:
        return [0] * (len(self.bounds) + 1)


def _running_totals(counts: Iterable[int]) -> tuple[int, ...]:
    total, totals = 0, []
    for count in counts:
        total += count
        totals.append(total)
    return tuple(totals)
