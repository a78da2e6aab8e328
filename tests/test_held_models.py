"""Models that a graph names by their local names stay while a job needs them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cache.content import safetensors
from tests.cache.origin import Origin
from tests.fetching import Cook, Kitchen, kitchens, loading_engine

SIZE = 100_000
ROOM_FOR_ONE = 1.5 * SIZE / 1024**3


@pytest.fixture
async def cook(tmp_path: Path) -> AsyncIterator[Cook]:
    async for cook in kitchens(tmp_path):
        yield cook


@pytest.fixture
def kitchen(cook: Cook, tmp_path: Path) -> Kitchen:
    engine = loading_engine(models_root=tmp_path / "models")
    return cook(engine, lru_cache_size_gb=ROOM_FOR_ONE)


async def linked(kitchen: Kitchen, origin: Origin, number: int) -> str:
    """Fetch a model for a job that ends; return the name that it is linked under."""
    url = origin.put(f"/{number}.safetensors", safetensors(SIZE, number))
    name = await kitchen.value("Lora", url)
    kitchen.leave()
    kitchen.workspaces.clear()
    assert isinstance(name, str)
    return name


@pytest.mark.parametrize("is_list", [False, True])
async def test_a_model_that_is_named_stays_until_the_job_ends(
    kitchen: Kitchen, origin: Origin, is_list: bool
) -> None:
    name = await linked(kitchen, origin, 1)
    link = kitchen.folder / "models" / "loras" / name
    await kitchen.value("Lora", [name] if is_list else name)
    (job,) = kitchen.workspaces
    kitchen.workspaces.clear()
    await linked(kitchen, origin, 2)
    assert link.exists()
    job.leave()
    await linked(kitchen, origin, 3)
    assert not link.is_symlink()


async def test_a_model_that_nobody_names_goes(kitchen: Kitchen, origin: Origin) -> None:
    name = await linked(kitchen, origin, 1)
    await linked(kitchen, origin, 2)
    assert not (kitchen.folder / "models" / "loras" / name).is_symlink()


async def test_a_model_of_the_operator_s_own_is_left_alone(
    kitchen: Kitchen, tmp_path: Path
) -> None:
    own = tmp_path / "models" / "loras" / "own.safetensors"
    own.parent.mkdir(parents=True)
    own.write_bytes(safetensors(64))
    assert await kitchen.value("Lora", "own.safetensors") == "own.safetensors"
    assert await kitchen.value("Lora", "absent.safetensors") == "absent.safetensors"
    assert kitchen.cached == []
    kitchen.leave()
