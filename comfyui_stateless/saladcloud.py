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
    url, told = f"{metadata_url.rstrip('/')}/v1/deletion-cost", None
    async with aiohttp.ClientSession(headers={"Metadata": "true"}, timeout=TIMEOUT) as session:
        while True:
            cost = depth()
            if cost != told and not await _told(session, url, cost):
                await asyncio.sleep(RETRY_S)
                continue
            told = cost
            await asyncio.sleep(INTERVAL_S)


async def _told(session: aiohttp.ClientSession, url: str, cost: int) -> bool:
    try:
        async with session.put(url, json={"deletion_cost": cost}) as response:
            if response.status < 400:
                return True
            reason = f"it answers {response.status}"
    except (aiohttp.ClientError, asyncio.TimeoutError) as error:
        reason = str(error) or type(error).__name__
    log.warning("SaladCloud's metadata service does not take the deletion cost: %s", reason)
    return False
