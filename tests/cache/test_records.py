"""The records beside cached files."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from comfyui_stateless.cache.eviction import evict
from comfyui_stateless.cache.locks import locked
from comfyui_stateless.cache.names import key_of
from comfyui_stateless.errors import StorageError
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


OWN = ("{}.part", "{}.state.part", "{}.bin", "{}.bin.meta", "{}.bin.meta.part", "{}.lock",
       "{}.fetch.lock", "records.lock")  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="links are made by administrators only")
@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("leads_to", ["a file", "nothing", "a folder"])
async def test_what_a_planted_link_leads_to_is_left_alone(
    origin: Origin, new_cache: NewCache, folder: Path, tmp_path: Path, name: str, leads_to: str
) -> None:
    cache, url = await new_cache(), origin.put("/a.bin", noise(SIZE))
    outside = {"a file": tmp_path / "file", "nothing": tmp_path / "new", "a folder": tmp_path}
    (tmp_path / "file").write_bytes(b"precious")
    planted = folder / name.format(key_of(url))
    planted.unlink(missing_ok=True)
    planted.symlink_to(outside[leads_to])
    lease = await cache.fetch(url)
    assert (lease.path.read_bytes(), lease.path.is_symlink()) == (noise(SIZE), False)
    assert (tmp_path / "file").read_bytes() == b"precious"
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("name", OWN)
async def test_a_planted_pipe_is_not_waited_for(
    origin: Origin, new_cache: NewCache, folder: Path, name: str
) -> None:
    cache, url = await new_cache(), origin.put("/a.bin", noise(SIZE))
    planted = folder / name.format(key_of(url))
    planted.unlink(missing_ok=True)
    os.mkfifo(planted)
    with suppress(StorageError):  # where it has to be written
        lease = await asyncio.wait_for(cache.fetch(url), 10)
        assert lease.path.read_bytes() == noise(SIZE)


@pytest.mark.parametrize("name", ["{}.lock", "{}.fetch.lock", "records.lock", "{}.part"])
async def test_a_folder_in_place_of_a_file_is_told_plainly(
    origin: Origin, new_cache: NewCache, folder: Path, name: str
) -> None:
    cache, url = await new_cache(), origin.put("/a.bin", noise(SIZE))
    planted = folder / name.format(key_of(url))
    planted.unlink(missing_ok=True)
    planted.mkdir()
    with pytest.raises(StorageError, match="CACHE_DIR cannot be used"):
        await cache.fetch(url)
