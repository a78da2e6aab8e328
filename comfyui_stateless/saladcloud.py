"""SaladCloud: an instance with a longer queue costs more to delete, so idle ones go first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import aiohttp

log = logging.getLogger("comfyui_stateless.saladcloud")

INTERVAL_S = 0.5
RETRY_S = 5.0
TIMEOUT = aiohttp.ClientTimeout(total=5)


async def keep_deletion_cost(metadata_url: str, depth: Callable[[], int]) -> None:
    """Tell SaladCloud's metadata service the queue's length whenever it changes, for ever.

    The interface is that of SaladCloud's instance metadata: PUT /v1/deletion-cost.

    Args:
        metadata_url: The service's address.
        depth: Gives how many prompts wait or run.
    """
    url = f"{metadata_url.rstrip('/')}/v1/deletion-cost"
    told: int | None = None
    trouble: str | None = None
    async with aiohttp.ClientSession(headers={"Metadata": "true"}, timeout=TIMEOUT) as session:
        while True:
            cost, before = depth(), trouble
            if cost != told:
                trouble = await _trouble(session, url, cost)
                told = cost if trouble is None else told
            if trouble not in (None, before):
                log.warning("SaladCloud's metadata service has no deletion cost: %s", trouble)
            await asyncio.sleep(INTERVAL_S if trouble is None else RETRY_S)


async def _trouble(session: aiohttp.ClientSession, url: str, cost: int) -> str | None:
    """Tell a cost; return why it could not be told, None if it could."""
    try:
        async with session.put(url, json={"deletion_cost": cost}) as response:
            return None if response.status < 300 else f"it answers {response.status}"
    except (aiohttp.ClientError, asyncio.TimeoutError) as error:
        return str(error) or type(error).__name__
