"""Files that somebody else put into the cache's folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from comfyui_stateless.cache import Cache
from comfyui_stateless.cache.names import key_of
from comfyui_stateless.errors import StorageError
from tests.cache.conftest import NewCache
from tests.cache.content import noise
from tests.cache.origin import Origin
from tests.cache.watching import names

SIZE = 10_000


@pytest.mark.parametrize("suffix", ["", ".safetensors"])
async def test_a_file_without_a_record_is_used_if_the_origins_length_agrees(
    origin: Origin, cache: Cache, folder: Path, suffix: str
) -> None:
    data = noise(SIZE)
    url = origin.put("/a.safetensors", data)
    (folder / f"{key_of(url)}{suffix}").write_bytes(data)
    lease = await cache.fetch(url)
    assert lease.was_cached
    assert lease.path.read_bytes() == data
    assert (await cache.fetch(url)).was_cached
    assert [seen.method for seen in origin.seen] == ["HEAD"]


@pytest.mark.parametrize("there", [b"", noise(SIZE)[:-1], noise(SIZE) + b"x"])
async def test_a_file_of_another_length_is_fetched_again(
    origin: Origin, cache: Cache, folder: Path, there: bytes
) -> None:
    url = origin.put("/a.bin", noise(SIZE))
    (folder / f"{key_of(url)}.bin").write_bytes(there)
    lease = await cache.fetch(url)
    assert not lease.was_cached
    assert lease.path.read_bytes() == noise(SIZE)


async def test_a_file_that_was_cut_after_it_was_fetched_is_fetched_again(
    origin: Origin, cache: Cache, new_cache: NewCache
) -> None:
    url = origin.put("/a.bin", noise(SIZE))
    (await cache.fetch(url)).path.write_bytes(b"cut")
    for each in (cache, await new_cache()):
        lease = await each.fetch(url)
        assert lease.path.read_bytes() == noise(SIZE)
    assert len(origin.gets()) == 2


async def test_a_file_under_another_extension_is_replaced(
    origin: Origin, cache: Cache, folder: Path
) -> None:
    url = origin.put("/a.bin", noise(SIZE))
    (folder / f"{key_of(url)}.old").write_bytes(b"short")
    await cache.fetch(url)
    assert not names(folder, "*.old")


async def test_a_file_that_the_origin_has_no_more_is_not_used_without_a_record(
    origin: Origin, cache: Cache, folder: Path
) -> None:
    url = origin.url("/gone.bin")
    (folder / f"{key_of(url)}.bin").write_bytes(noise(SIZE))
    with pytest.raises(StorageError):
        await cache.fetch(url)


def delete(folder: Path) -> None:
    while folder.exists():  # the lock of what was fetched may go meanwhile
        shutil.rmtree(folder, ignore_errors=True)


async def test_a_file_is_fetched_again_where_its_whole_folder_was_deleted_while_it_was_held(
    origin: Origin, cache: Cache, folder: Path
) -> None:
    url = origin.put("/a.bin", noise(SIZE))
    held = await cache.fetch(url)
    delete(folder)
    assert (await cache.fetch(url)).path.read_bytes() == noise(SIZE)
    held.release()


async def test_a_look_says_what_is_there_and_downloads_nothing(
    origin: Origin, cache: Cache
) -> None:
    url = origin.put("/a.bin", noise(SIZE))
    before = await cache.inspect(url)
    await cache.fetch(url)
    after = await cache.inspect(url)
    assert (before.is_cached, before.size) == (False, SIZE)
    assert (after.is_cached, after.size) == (True, SIZE)
    assert [seen.method for seen in origin.seen] == ["HEAD", "GET"]


async def test_a_record_that_is_damaged_vouches_for_nothing(
    origin: Origin, cache: Cache, new_cache: NewCache, folder: Path
) -> None:
    url = origin.put("/a.bin", noise(SIZE))
    lease = await cache.fetch(url)
    (folder / f"{lease.path.name}.meta").write_text('{"authRequired": false, "size": tr')
    assert (await (await new_cache()).fetch(url)).was_cached
    assert [seen.method for seen in origin.seen] == ["GET", "HEAD"]
