"""How many connections one download has: one more only as long as one more pays."""

from __future__ import annotations

import time

MAX_CONNECTIONS = 8

INTERVAL_S = 0.15
"""Seconds over which a rate is measured once every connection has begun to give."""

FAST_BYTES_S = 300_000_000
"""Bytes per second and connection from which nobody limits it but this machine."""

GAIN = 1.25
"""How many times the rate has to rise for twice the connections to go on being doubled."""


class Governor:
    """Doubles the connections while that raises the rate by ``GAIN``. Not thread-safe."""

    def __init__(self) -> None:
        self._is_settled = False
        self._rate = 0.0
        self._since = time.monotonic()
        self._received = 0

    def wanted(self, received: int, connections: int, *, is_opening: bool) -> int:
        """Return how many connections to add now.

        Args:
            received: Bytes that all of them have brought so far.
            is_opening: Whether one of them has brought nothing yet.
        """
        now = time.monotonic()
        if is_opening:
            self._since, self._received = now, received
        if self._is_settled or is_opening or now - self._since < INTERVAL_S:
            return 0
        rate = (received - self._received) / (now - self._since)
        self._since, self._received = now, received
        pays = rate >= self._rate * GAIN and rate < connections * FAST_BYTES_S
        self._is_settled = not pays or connections >= MAX_CONNECTIONS
        self._rate = rate
        return 0 if self._is_settled else min(connections, MAX_CONNECTIONS - connections)
