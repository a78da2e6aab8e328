"""What a caller gets of the cache."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

from comfyui_stateless.cache import Cache
from tests.cache.conftest import NewCache
from tests.cache.content import noise
from tests.cache.origin import Origin


async def test_a_file_is_fetched_once_and_then_costs_no_request(
    origin: Origin, cache: Cache
) -> None:
    data = noise(300_000)
    url = origin.put("/model.safetensors", data)
    lease = await cache.fetch(url)
    assert lease.path.read_bytes() == data
    assert (lease.was_cached, lease.size, lease.name) == (False, 300_000, "model.safetensors")
    again = await cache.fetch(url)
    assert (again.was_cached, again.path) == (True, lease.path)
    assert [seen.method for seen in origin.seen] == ["GET"]


async def test_a_file_is_still_there_for_the_next_process(
    origin: Origin, new_cache: NewCache
) -> None:
    url = origin.put("/a.png", noise(1000))
    await (await new_cache()).fetch(url)
    assert (await (await new_cache()).fetch(url)).was_cached
    assert len(origin.seen) == 1


async def test_fifty_who_ask_at_once_cost_one_request(origin: Origin, cache: Cache) -> None:
    data = noise(500_000)
    url = origin.put("/a.bin", data, rate=5_000_000)
    leases = await asyncio.gather(*(cache.fetch(url) for _ in range(50)))
    assert {lease.path.read_bytes() for lease in leases} == {data}
    assert len(origin.seen) == 1


async def test_the_digest_is_of_the_content_and_kept(
    origin: Origin, cache: Cache, folder: Path
) -> None:
    data = noise(2_000_000)
    lease = await cache.fetch(origin.put("/a.bin", data))
    digests = await asyncio.gather(*(lease.digest() for _ in range(5)))
    assert set(digests) == {hashlib.sha256(data).hexdigest()}
    record = json.loads((folder / f"{lease.path.name}.meta").read_bytes())
    assert record["sha256"] == digests[0]
