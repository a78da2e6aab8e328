"""Several processes on one folder, and processes that are killed at any moment."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from comfyui_stateless.cache.locks import try_lock
from tests.cache.conftest import NewCache
from tests.cache.content import noise
from tests.cache.origin import Origin
from tests.cache.watching import endings, names, until

ROOT = Path(__file__).parents[2]
SIZE = 3_000_000


async def start(folder: Path, *urls: str, limit_bytes: int = 0) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.cache.worker", str(folder), str(limit_bytes), *urls,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip


async def output(process: asyncio.subprocess.Process) -> dict[str, str]:
    said, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return dict(json.loads(said))


async def test_several_processes_fetch_a_file_once(origin: Origin, folder: Path) -> None:
    data = noise(SIZE)
    url = origin.put("/a.bin", data, rate=2_000_000)
    processes = [await start(folder, url) for _ in range(3)]
    found = [await output(process) for process in processes]
    assert found == [{url: hashlib.sha256(data).hexdigest()}] * 3
    assert len(origin.seen) == 1


async def test_several_processes_get_whole_files_while_each_evicts(
    origin: Origin, folder: Path
) -> None:
    size = 200_000
    urls = {
        origin.put(f"/{n}.bin", noise(size, n), rate=2_000_000): noise(size, n) for n in range(12)
    }
    processes = [await start(folder, *urls, limit_bytes=2 * size) for _ in range(3)]
    for process in processes:
        found = await output(process)
        assert found == {url: hashlib.sha256(data).hexdigest() for url, data in urls.items()}
    assert not names(folder, "*.part")


async def test_a_kill_at_any_moment_costs_neither_the_file_nor_what_is_there_of_it(
    origin: Origin, folder: Path, new_cache: NewCache
) -> None:
    moments = random.Random(3)
    data = noise(SIZE)
    url = origin.put("/a.bin", data, rate=1_500_000)
    for _ in range(4):
        process = await start(folder, url)
        requests = len(origin.seen)
        await until(lambda: len(origin.seen) > requests or process.returncode is not None)  # noqa: B023 - awaited at once
        await asyncio.sleep(moments.random())
        process.send_signal(signal.SIGKILL)
        await process.wait()
    origin.files["/a.bin"].rate = None
    lease = await (await new_cache()).fetch(url)
    assert lease.path.read_bytes() == data
    assert any(seen.range for seen in origin.seen)
    left = endings(folder)
    assert left == {".bin", ".meta"}


async def test_a_file_that_changes_between_a_kill_and_the_next_start_is_never_mixed(
    origin: Origin, folder: Path, new_cache: NewCache
) -> None:
    old, new = noise(SIZE, 1), noise(SIZE, 2)
    url = origin.put("/a.bin", old, rate=1_500_000)
    process = await start(folder, url)
    await until(lambda: names(folder, "*.state.part"))
    process.kill()
    await process.wait()
    origin.files["/a.bin"].content = new
    origin.files["/a.bin"].rate = None
    lease = await (await new_cache()).fetch(url)
    assert lease.path.read_bytes() == new
    assert origin.seen[-1].range is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks on this system")
def test_a_forked_child_holds_no_lock(folder: Path) -> None:
    path = folder / "a.lock"
    lock = try_lock(path)
    assert lock is not None
    held, release = os.pipe()
    forked, begun = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(release)
        os.write(begun, b".")
        os.read(held, 1)
        os._exit(0)
    try:
        os.read(forked, 1)
        lock.release()
        again = try_lock(path)
        assert again is not None
        again.release()
    finally:
        for end in (held, release, forked, begun):
            os.close(end)
        os.waitpid(child, 0)
