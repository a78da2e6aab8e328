"""Which files leave the cache, and which never."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path

import pytest

from comfyui_stateless.cache import Cache, FileEvent
from comfyui_stateless.cache.names import is_content, key_in, key_of
from comfyui_stateless.errors import StorageError
from tests.cache.conftest import NewCache
from tests.cache.content import noise
from tests.cache.origin import Origin
from tests.cache.watching import has_begun, names, until

SIZE = 100_000


def cached(folder: Path) -> set[str]:
    """Return the stems of the files that are cached."""
    return {p.stem for p in folder.iterdir() if key_in(p.name) and is_content(p.name)}


async def test_what_was_used_longest_ago_goes_first(
    origin: Origin, new_cache: NewCache, folder: Path
) -> None:
    deleted: list[FileEvent] = []
    cache = await new_cache(limit_bytes=2 * SIZE, on_deleted=deleted.append)
    urls = [origin.put(f"/{n}.bin", noise(SIZE, n)) for n in range(3)]
    for url in (*urls[:2], urls[0], urls[2]):
        (await cache.fetch(url)).release()
    assert cached(folder) == {key_of(urls[0]), key_of(urls[2])}
    assert not names(folder, f"{key_of(urls[1])}*")
    assert [(event.url, event.size) for event in deleted] == [(urls[1], SIZE)]


async def test_a_file_that_is_in_use_stays_until_it_is_released(
    origin: Origin, new_cache: NewCache, folder: Path
) -> None:
    cache, other = await new_cache(limit_bytes=SIZE), await new_cache(limit_bytes=SIZE)
    first, second = (origin.put(f"/{n}.bin", noise(SIZE, n)) for n in range(2))
    lease = await other.fetch(first)
    (await cache.fetch(second)).release()
    assert cached(folder) == {key_of(first), key_of(second)}
    lease.release()
    lease.release()
    await cache.start()
    assert cached(folder) == {key_of(second)}


async def test_a_file_that_is_larger_than_the_limit_is_served(
    origin: Origin, new_cache: NewCache
) -> None:
    cache = await new_cache(limit_bytes=10)
    lease = await cache.fetch(origin.put("/a.bin", noise(SIZE)))
    assert lease.path.read_bytes() == noise(SIZE)


async def test_links_go_with_their_file_if_they_still_lead_to_it(
    origin: Origin, new_cache: NewCache, tmp_path: Path
) -> None:
    cache = await new_cache(limit_bytes=SIZE)
    lease = await cache.fetch(origin.put("/a.bin", noise(SIZE)))
    links = [tmp_path / name for name in ("stays", "goes", "was_replaced", "was_removed")]
    for link in links[1:]:
        await lease.add_link(link)
    for link in links[:2]:
        link.symlink_to(lease.path)
    links[2].write_bytes(b"somebody's own")
    lease.release()
    (await cache.fetch(origin.put("/b.bin", noise(SIZE, 2)))).release()
    assert not lease.path.exists()
    assert [link.is_symlink() for link in links] == [True, False, False, False]
    assert links[2].read_bytes() == b"somebody's own"


async def test_a_part_that_nobody_fetches_counts_and_goes(
    origin: Origin, new_cache: NewCache, folder: Path
) -> None:
    cache = await new_cache(limit_bytes=10 * SIZE)
    url = origin.put("/a.bin", noise(9 * SIZE), gate=threading.Event())
    task = asyncio.create_task(cache.fetch(url))
    await until(has_begun(cache))
    small = origin.put("/b.bin", noise(SIZE, 2))
    await (await new_cache(limit_bytes=1)).fetch(small)
    assert (folder / f"{key_of(url)}.part").exists()
    task.cancel()
    await asyncio.wait([task])
    await cache.close()
    await new_cache(limit_bytes=1)
    assert not names(folder, "*.part")


async def test_what_a_dead_process_left_and_cannot_be_resumed_is_swept(
    origin: Origin, new_cache: NewCache, folder: Path
) -> None:
    url = origin.put("/a.bin", noise(SIZE))
    cache = await new_cache()
    kept = (await cache.fetch(url)).path.name
    dead = key_of("http://dead/")
    for ending in (".part", ".bin.meta", ".bin.meta.part", ".lock", ".fetch.lock", ".whole.part"):
        (folder / f"{dead}{ending}").write_bytes(b"{}")
    (folder / f"{key_of('http://other/')}.state.part").write_bytes(b"{}")
    (folder / "somebody's own.part").write_bytes(b"")
    await new_cache()
    assert names(folder) - {"records.lock", "eviction.lock"} == {
        kept, f"{kept}.meta", f"{key_of(url)}.lock", "somebody's own.part",
    }  # fmt: skip


async def test_what_cannot_be_had_leaves_nothing_behind(
    origin: Origin, cache: Cache, folder: Path
) -> None:
    url = origin.put("/a.bin", noise(SIZE))
    assert not (await cache.inspect(url)).is_cached
    for missing in (origin.url("/none.bin"), "http://127.0.0.1:1/closed.bin"):
        with pytest.raises(StorageError):
            await cache.inspect(missing)
        with pytest.raises(StorageError):
            await cache.fetch(missing)
    await cache.close()
    assert names(folder) - {"records.lock", "eviction.lock"} == set()


@pytest.mark.parametrize("distinct", [1, 10, 50])
async def test_fifty_at_once_get_whole_files_while_the_cache_evicts(
    origin: Origin, new_cache: NewCache, folder: Path, distinct: int
) -> None:
    order = random.Random(7)
    caches = [await new_cache(limit_bytes=3 * SIZE) for _ in range(2)]
    urls = [origin.put(f"/{n}.bin", noise(SIZE, n), rate=5_000_000) for n in range(distinct)]

    async def use(n: int) -> bool:
        lease = await order.choice(caches).fetch(urls[n % distinct])
        await asyncio.sleep(order.random() / 50)
        whole = await asyncio.to_thread(lease.path.read_bytes) == noise(SIZE, n % distinct)
        lease.release()
        return whole

    for _ in range(2):
        assert all(await asyncio.gather(*map(use, range(50))))
    for cache in caches:
        await cache.close()
    await new_cache(limit_bytes=3 * SIZE)
    assert len(cached(folder)) <= 3
    assert not names(folder, "*.part")
