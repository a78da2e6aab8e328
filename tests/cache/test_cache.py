"""What a caller gets of the cache."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from comfyui_stateless.cache import Cache
from comfyui_stateless.cache.names import key_of
from comfyui_stateless.config import HttpAccess
from comfyui_stateless.errors import StorageError, TransferFailed
from comfyui_stateless.storage.auth import Auth
from comfyui_stateless.storage.base import Cancel, Digest, ObjectInfo
from comfyui_stateless.storage.connections import Client
from comfyui_stateless.storage.http import HttpBackend
from comfyui_stateless.storage.policy import Policy
from tests.cache.conftest import NewCache
from tests.cache.content import noise
from tests.cache.origin import Origin
from tests.cache.watching import names


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


async def test_a_cache_whose_folder_is_deleted_goes_on(
    origin: Origin, cache: Cache, folder: Path
) -> None:
    url = origin.put("/a.bin", noise(1000))
    (await cache.fetch(url)).release()
    shutil.rmtree(folder, ignore_errors=True)
    assert (await cache.fetch(url)).path.read_bytes() == noise(1000)


async def test_a_folder_that_cannot_be_written_to_is_told(
    origin: Origin, cache: Cache, folder: Path
) -> None:
    url = origin.put("/a.bin", noise(1000))
    (folder / f"{key_of(url)}.part").mkdir()
    with pytest.raises(StorageError, match="CACHE_DIR"):
        await cache.fetch(url)


@pytest.mark.parametrize("stuck", ["{}.bin.meta.part", "{}.state.part.part"])
async def test_what_cannot_be_noted_or_named_is_not_left_where_nothing_goes_on_with_it(
    origin: Origin, cache: Cache, folder: Path, stuck: str
) -> None:
    url = origin.put("/a.bin", noise(1000), cut_every=0 if "state" in stuck else None)
    blocked = folder / stuck.format(key_of(url))
    blocked.mkdir()
    with pytest.raises(StorageError):
        await cache.fetch(url)
    assert [name for name in names(folder, "*.part") if name != blocked.name] == []
    blocked.rmdir()
    origin.files["/a.bin"].cut_every = None
    assert (await cache.fetch(url)).path.read_bytes() == noise(1000)


class OwnWay(HttpBackend):
    """A backend that brings objects whole, as the vendor's client for Xet does."""

    def __init__(self, outcomes: list[ObjectInfo | Exception | None]) -> None:
        access = HttpAccess(trusted=frozenset({"*"}))
        super().__init__(Client(Policy(access), access.proxies), access)
        self.outcomes = outcomes

    def fetch(
        self,
        url: str,
        auth: Auth | None,
        path: Path,
        progress: Callable[[int, int | None], None],
        cancel: Cancel,
    ) -> ObjectInfo | None:
        progress(0, 7)
        path.write_bytes(b"its own")
        progress(7, 7)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([ObjectInfo(size=7)], b"its own"),
        ([TransferFailed("broke"), ObjectInfo()], b"its own"),
        ([ObjectInfo(size=8)], None),
        ([TransferFailed("broke")] * 3, None),
        ([ObjectInfo(digest=Digest("sha256", "0" * 64))], None),
        ([None], b"noise"),
    ],
    ids=["whole", "second try", "short", "broken", "other digest", "not this one"],
)
async def test_a_backend_may_bring_a_file_in_its_own_way_and_is_checked_all_the_same(
    origin: Origin, folder: Path, outcomes: list[ObjectInfo | Exception | None],
    expected: bytes | None,
) -> None:  # fmt: skip
    url = origin.put("/a.bin", noise(5))
    backend = OwnWay(list(outcomes))
    cache = Cache(folder, lambda _: backend, retry_delays=(0.01,))
    await cache.start()
    try:
        if expected is None:
            with pytest.raises(StorageError):
                await cache.fetch(url)
        else:
            assert (await cache.fetch(url)).path.read_bytes() == expected
    finally:
        await cache.close()
    assert not names(folder, "*.part")


async def test_the_digest_is_of_the_content_and_kept(
    origin: Origin, cache: Cache, folder: Path
) -> None:
    data = noise(2_000_000)
    lease = await cache.fetch(origin.put("/a.bin", data))
    digests = await asyncio.gather(*(lease.digest() for _ in range(5)))
    assert set(digests) == {hashlib.sha256(data).hexdigest()}
    record = json.loads((folder / f"{lease.path.name}.meta").read_bytes())
    assert record["sha256"] == digests[0]


async def test_a_known_digest_is_told_without_looking_at_the_disk(
    origin: Origin, cache: Cache, folder: Path
) -> None:
    url = origin.put("/a.bin", b"content")
    known = await (await cache.fetch(url)).digest()
    lease = await cache.fetch(url)
    lease.path.unlink()
    (folder / f"{lease.path.name}.meta").unlink()
    assert await lease.digest() == known
