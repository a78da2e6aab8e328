"""The records beside cached files."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from comfyui_stateless.cache.eviction import evict
from comfyui_stateless.cache.locks import locked
from tests.cache.conftest import NewCache
from tests.cache.content import noise
from tests.cache.origin import Origin

SIZE = 1000


async def test_a_record_that_is_being_written_stays_however_little_room_there_is(
    origin: Origin, new_cache: NewCache, folder: Path
) -> None:
    lease = await (await new_cache()).fetch(origin.put("/a.bin", noise(SIZE)))
    half = lease.path.with_name(f"{lease.path.name}.meta.part")
    with locked(folder / "records.lock"):
        half.write_bytes(b"{")
        await asyncio.to_thread(evict, folder, 1)
        starting = asyncio.ensure_future(new_cache())
        done, _ = await asyncio.wait([starting], timeout=0.2)
        assert not done
        assert half.exists()
    _ = await starting
    assert not half.exists()


async def test_what_a_record_says_already_is_not_written_again(
    origin: Origin, new_cache: NewCache, tmp_path: Path
) -> None:
    lease = await (await new_cache()).fetch(origin.put("/a.bin", noise(SIZE)))
    await lease.add_link(tmp_path / "link")
    record = lease.path.with_name(f"{lease.path.name}.meta")
    before = record.stat()
    await lease.add_link(tmp_path / "link")
    assert (record.stat().st_ino, record.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


async def test_a_digest_is_told_where_it_cannot_be_written_down(
    origin: Origin, new_cache: NewCache
) -> None:
    content = noise(SIZE)
    lease = await (await new_cache()).fetch(origin.put("/a.bin", content))
    lease.path.with_name(f"{lease.path.name}.meta.part").mkdir()
    assert await lease.digest() == hashlib.sha256(content).hexdigest()
