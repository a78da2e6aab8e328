"""Which failures are tried again, and when."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

DELAYS_S = (2.0, 12.0, 60.0)
"""Before the first retries; each later one waits ``GROWTH`` times as long as the one before."""

GROWTH = 5.0
JITTER = 0.1
MAX_DELAY_S = 7 * 24 * 3600.0
MAX_RETRY_AFTER_S = 3600.0
"""What a receiver may ask for at most."""

Uniform = Callable[[float, float], float]
"""Gives a number between two."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed.

    Attributes:
        reason: For the log and the list of what was given up; holds no secret.
        is_final: Whether trying again is of no use.
        retry_after_s: The least that the receiver asks us to wait.
    """

    reason: str
    is_final: bool = False
    retry_after_s: float = 0


def failure_of(status: int, headers: Mapping[str, str], now: float) -> Failure | None:
    """Return what an answer's status means, None where the message has arrived."""
    if 200 <= status < 300:
        return None
    reason = f"the receiver answered {status}"
    if status in (408, 429) or status >= 500:
        return Failure(reason, retry_after_s=_retry_after(headers.get("Retry-After", ""), now))
    return Failure(reason, is_final=True)


def delay_s(retry: int, failure: Failure, uniform: Uniform = random.uniform) -> float:
    """Return how long to wait before a retry; ``retry`` counts from 0."""
    if retry < len(DELAYS_S):
        base = DELAYS_S[retry]
    else:
        growth = GROWTH ** min(retry - len(DELAYS_S) + 1, 20)
        base = min(DELAYS_S[-1] * growth, MAX_DELAY_S)
    return max(base * uniform(1 - JITTER, 1 + JITTER), failure.retry_after_s)


def _retry_after(value: str, now: float) -> float:
    """Return the seconds that a Retry-After asks for, 0 where it asks for nothing sensible."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:12]), MAX_RETRY_AFTER_S)
    try:
        until = _timestamp(parsedate_to_datetime(value))
    except (TypeError, ValueError, OverflowError):
        return 0
    return min(max(0.0, until - now), MAX_RETRY_AFTER_S)


def _timestamp(date: datetime) -> float:
    return (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp()
