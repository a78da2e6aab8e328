"""A misbehaving origin, and caches on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.cache import Cache
from tests.cache.worker import backend

NewCache = Callable[..., Awaitable[Cache]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
async def new_cache(folder: Path) -> AsyncIterator[NewCache]:
    """Give caches on one folder, as processes one after the other would have them."""
    made = []

    async def new(**how: Any) -> Cache:
        serves = backend()
        cache = Cache(folder, lambda _: serves, **{"retry_delays": (0.01, 0.02), **how})
        await cache.start()
        made.append(cache)
        return cache

    yield new
    for cache in made:
        await cache.close()


@pytest.fixture
async def cache(new_cache: NewCache) -> Cache:
    return await new_cache()
