"""When a download that broke is tried again, and when it is given up."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..errors import TransferFailed

DELAYS_S = (1.0, 3.0)
"""Seconds before the second and the third try in a row that bring nothing."""

AFTER_PROGRESS_S = 0.1
MAX_RETRY_AFTER_S = 30.0
MAX_BREAKS = 500


class Patience:
    """Gives a download three tries; one that brought more than any before is not counted.

    Args:
        delays: Seconds before each further try.
        done: Bytes that are there already.
    """

    def __init__(self, delays: Sequence[float], done: int = 0) -> None:
        self._delays = delays
        self._failures = 0
        self._breaks = 0
        self._most = done

    def after(self, error: TransferFailed, done: int) -> float:
        """Return how many seconds to wait before the next try.

        Args:
            error: How the last one ended.
            done: Bytes that are there now.

        Raises:
            TransferFailed: ``error``, where another try is of no use.
        """
        self._breaks += 1
        if done > self._most:
            self._most, self._failures = done, 0
        else:
            self._failures += 1
        if self._failures > len(self._delays) or self._breaks > MAX_BREAKS:
            raise error
        wanted = error.retry_after_s or 0.0
        if wanted > MAX_RETRY_AFTER_S:
            raise error
        delay = self._delays[self._failures - 1] if self._failures else AFTER_PROGRESS_S
        return max(wanted, delay * random.uniform(0.8, 1.2))  # noqa: S311 - spreads, hides nothing
