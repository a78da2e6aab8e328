"""What the extension in ComfyUI says of itself, asked over HTTP."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

import aiohttp

from ..readiness import STATE_HEADER

BASE = "/api/stateless"
LARGEST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a probe.

    Attributes:
        status: Of HTTP.
        state: A value of ``readiness.Phase``, or TROUBLE; None where it was not the extension
            that answered.
        reason: Why all is not well.
    """

    status: int
    state: str | None
    reason: str | None


class Health:
    """Asks the extension. Make it on the event loop, and close it.

    Args:
        url: Where ComfyUI is.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        # One connection for each question: what is asked may be another process every time.
        connector = aiohttp.TCPConnector(force_close=True)
        self._session = aiohttp.ClientSession(connector=connector)

    async def ask(self, within_s: float) -> Answer | None:
        """Return what ``/ready`` answers, None where nothing answers in time."""
        timeout = aiohttp.ClientTimeout(total=within_s)
        try:
            async with self._session.get(
                f"{self._url}{BASE}/ready", timeout=timeout, allow_redirects=False
            ) as response:
                body = await response.content.read(LARGEST_BYTES)
                state = response.headers.get(STATE_HEADER)
                return Answer(response.status, state, _reason(body))
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError):
            return None

    async def close(self) -> None:
        """Close what is open."""
        await self._session.close()


def _reason(body: bytes) -> str | None:
    try:
        reason = json.loads(body).get("reason")
    except (ValueError, AttributeError):
        return None
    return reason if isinstance(reason, str) else None
