"""How far a download is, for whoever watches."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import NamedTuple

WINDOW_S = 2.0
SAMPLE_S = 0.1


class DownloadProgress(NamedTuple):
    """A download that is under way.

    Attributes:
        url: Without secrets.
        folder: The model folder that it is for, None for media.
        bytes: Bytes that are there.
        total: Bytes of the whole, None where the origin does not say.
        rate: Bytes per second, over the last two seconds.
        seconds: Since it began.
    """

    url: str
    folder: str | None
    bytes: int
    total: int | None
    rate: float
    seconds: float


class Meter:
    """Counts what a download has received; any thread may add and read."""

    def __init__(self) -> None:
        self.received = 0
        self._mutex = threading.Lock()
        self._began = time.monotonic()
        self._samples: deque[tuple[float, int]] = deque([(self._began, 0)], maxlen=256)

    @property
    def seconds(self) -> float:
        """Seconds since the download began."""
        return time.monotonic() - self._began

    def add(self, count: int) -> None:
        """Note that ``count`` more bytes have come."""
        now = time.monotonic()
        with self._mutex:
            self.received += count
            if now - self._samples[-1][0] >= SAMPLE_S:
                self._samples.append((now, self.received))

    def rate(self) -> float:
        """Return bytes per second over the last ``WINDOW_S``."""
        now = time.monotonic()
        with self._mutex:
            samples = tuple(self._samples)
        since = next((s for s in samples if now - s[0] <= WINDOW_S), samples[-1])
        return (self.received - since[1]) / max(now - since[0], SAMPLE_S)
