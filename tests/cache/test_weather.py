"""Downloads over a network that drops, stalls, corrupts and reorders what is sent."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from pathlib import Path

import pytest

from comfyui_stateless.cache import Cache
from comfyui_stateless.errors import StorageError
from tests.cache.content import noise
from tests.cache.origin import Origin
from tests.cache.watching import endings
from tests.chaos.weather import weather

FILES = 40
SIZE = 20_000


async def fetched(cache: Cache, url: str) -> bytes | None:
    """Return the content behind a URL, None where it cannot be had."""
    try:
        lease = await cache.fetch(url)
    except StorageError:
        return None
    try:
        return lease.path.read_bytes()
    finally:
        lease.release()


@pytest.mark.parametrize("kinds", [("drop",), ("stall",), ("corrupt",), ("reorder",)], ids=str)
async def test_a_bad_network_gives_whole_files_or_none(
    origin: Origin, cache: Cache, folder: Path, kinds: tuple[str, ...]
) -> None:
    paths = {f"/{n}.bin": noise(SIZE, n) for n in range(FILES)}
    for path, content in paths.items():
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        origin.put(path, content, headers={"Repr-Digest": f"sha-256=:{digest}:"})
    with weather(origin.url(""), seed=9) as network:
        with network.of(*kinds, share=0.5):
            got = await asyncio.gather(*(fetched(cache, network.origin + path) for path in paths))
        for found, content in zip(got, paths.values(), strict=True):
            assert found in (None, content)
        assert network.hits
        for path, content in paths.items():
            assert await fetched(cache, network.origin + path) == content
    assert ".part" not in endings(folder)
