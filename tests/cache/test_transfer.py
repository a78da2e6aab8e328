"""Downloads from an origin that fails in every way."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from comfyui_stateless.cache import Cache, transfer
from comfyui_stateless.config import HttpAccess
from comfyui_stateless.errors import (
    NoSpace,
    ObjectNotFound,
    StorageError,
    TransferFailed,
    WrongContent,
)
from comfyui_stateless.storage.auth import Auth
from comfyui_stateless.storage.base import Cancel, Span
from comfyui_stateless.storage.connections import Client
from comfyui_stateless.storage.http import HttpBackend, HttpDownload
from comfyui_stateless.storage.policy import Policy
from tests.cache.conftest import NewCache
from tests.cache.content import noise, safetensors
from tests.cache.origin import Origin
from tests.cache.watching import endings, has_begun, until

SIZE = 1_000_003


async def fetched(cache: Cache, url: str) -> bytes:
    lease = await cache.fetch(url)
    try:
        return lease.path.read_bytes()
    finally:
        lease.release()


async def test_a_server_that_dies_at_every_tenth_gives_the_whole_file(
    origin: Origin, cache: Cache, folder: Path
) -> None:
    data = noise(SIZE)
    url = origin.put("/a.bin", data, cut_every=SIZE // 10)
    assert await fetched(cache, url) == data
    assert len(origin.seen) == 11
    assert sum(seen.range is not None for seen in origin.seen) == 10
    assert endings(folder) == {".bin", ".meta"}


async def test_a_server_that_dies_and_gives_no_parts_is_given_up_after_three_tries(
    origin: Origin, cache: Cache, folder: Path
) -> None:
    url = origin.put("/a.bin", noise(SIZE), cut_every=SIZE // 10, ranges=False)
    with pytest.raises(TransferFailed):
        await cache.fetch(url)
    assert len(origin.seen) == 4  # the first one brought something
    assert endings(folder) == set()


async def test_ranges_that_are_announced_and_ignored_cost_a_new_start(
    origin: Origin, cache: Cache
) -> None:
    data = noise(SIZE)
    url = origin.put("/a.bin", data, cut_every=SIZE // 2, ranges=False)
    file = origin.files["/a.bin"]
    file.headers["Accept-Ranges"] = "bytes"
    file.on_get = lambda: setattr(file, "cut_every", None) if len(origin.seen) > 1 else None
    assert await fetched(cache, url) == data
    assert len(origin.seen) == 2


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
async def test_without_a_strong_version_nothing_is_carried_on(
    origin: Origin, cache: Cache, etag: str | None
) -> None:
    data = noise(SIZE)
    url = origin.put("/a.bin", data, cut_every=SIZE // 2, etag=etag)
    file = origin.files["/a.bin"]
    file.on_get = lambda: setattr(file, "cut_every", None) if len(origin.seen) > 1 else None
    assert await fetched(cache, url) == data
    assert [seen.range for seen in origin.seen] == [None, None]


async def test_a_file_that_changes_between_two_tries_is_never_mixed(
    origin: Origin, cache: Cache
) -> None:
    old, new = noise(SIZE, 1), noise(SIZE, 2)
    url = origin.put("/a.bin", old, cut_every=SIZE // 2)
    file = origin.files["/a.bin"]

    def change() -> None:
        if len(origin.seen) == 2:
            file.content, file.cut_every = new, None

    file.on_get = change
    assert await fetched(cache, url) == new


async def test_a_file_that_changes_while_it_is_resumed_by_another_process_is_never_mixed(
    origin: Origin, new_cache: NewCache
) -> None:
    old, new = noise(SIZE, 1), noise(SIZE // 2, 2)
    url = origin.put("/a.bin", old, rate=2_000_000)
    await started_and_left(await new_cache(), url)
    origin.files["/a.bin"].content = new
    assert await fetched(await new_cache(), url) == new


async def started_and_left(cache: Cache, url: str) -> None:
    """Begin a download and leave when a part of it is there."""
    task = asyncio.create_task(cache.fetch(url))
    await until(has_begun(cache, 100_000))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await cache.close()


async def test_a_download_that_was_left_is_resumed_by_the_next_process(
    origin: Origin, new_cache: NewCache, folder: Path
) -> None:
    data = noise(SIZE)
    url = origin.put("/a.bin", data, rate=2_000_000)
    await started_and_left(await new_cache(), url)
    assert endings(folder) == {".part"}
    origin.files["/a.bin"].rate = None
    assert await fetched(await new_cache(), url) == data
    second = origin.seen[1].range
    assert second is not None
    assert int(second.removeprefix("bytes=").rstrip("-")) > 100_000
    assert endings(folder) == {".bin", ".meta"}


async def test_a_part_without_a_version_does_not_outlive_its_download(
    origin: Origin, new_cache: NewCache, folder: Path
) -> None:
    url = origin.put("/a.bin", noise(SIZE), rate=2_000_000, etag=None)
    await started_and_left(await new_cache(), url)
    assert endings(folder) == set()


async def test_a_length_that_is_too_long_gives_no_file(
    origin: Origin, cache: Cache, folder: Path
) -> None:
    url = origin.put("/a.bin", noise(SIZE), length=SIZE + 1000, ranges=False)
    with pytest.raises(TransferFailed):
        await cache.fetch(url)
    assert endings(folder) == set()


async def test_a_model_whose_length_is_told_too_short_is_found_out(
    origin: Origin, cache: Cache, folder: Path
) -> None:
    data = safetensors(SIZE)
    url = origin.put("/a.safetensors", data, length=len(data) - 1000)
    with pytest.raises(WrongContent, match=str(len(data))):
        await cache.fetch(url)
    assert endings(folder) == set()


async def test_a_body_without_a_length_is_taken_to_its_end(origin: Origin, cache: Cache) -> None:
    data = noise(SIZE)
    assert await fetched(cache, origin.put("/a.bin", data, length=0)) == data


async def test_an_empty_file_is_a_file(origin: Origin, cache: Cache) -> None:
    assert await fetched(cache, origin.put("/a.txt", b"")) == b""


async def test_a_body_without_a_length_that_breaks_off_gives_no_file(
    origin: Origin, cache: Cache
) -> None:
    url = origin.put("/a.bin", noise(SIZE), length=0, cut_every=SIZE // 2, ranges=False)
    with pytest.raises(TransferFailed):
        await cache.fetch(url)


async def test_a_wrong_content_range_is_no_part(origin: Origin, cache: Cache) -> None:
    data = noise(SIZE)
    url = origin.put("/a.bin", data, cut_every=SIZE // 2, says_range=f"bytes 7-{SIZE - 1}/{SIZE}")
    with pytest.raises(TransferFailed):
        await cache.fetch(url)
    file = origin.files["/a.bin"]
    file.says_range, file.cut_every = None, None
    assert await fetched(cache, url) == data


async def test_two_failures_are_tried_again(origin: Origin, cache: Cache) -> None:
    data = noise(1000)
    url = origin.put("/a.bin", data, failures=[(500, {}), (503, {})])
    assert await fetched(cache, url) == data


async def test_three_failures_are_too_many(origin: Origin, cache: Cache) -> None:
    url = origin.put("/a.bin", noise(1000), failures=[(500, {})] * 3)
    with pytest.raises(TransferFailed):
        await cache.fetch(url)
    assert len(origin.seen) == 3


async def test_what_trying_again_does_not_mend_is_not_tried_again(
    origin: Origin, cache: Cache
) -> None:
    with pytest.raises(ObjectNotFound):
        await cache.fetch(origin.url("/missing.bin"))
    assert len(origin.seen) == 1


async def test_an_origin_that_asks_to_wait_is_waited_for(origin: Origin, cache: Cache) -> None:
    data = noise(1000)
    url = origin.put("/a.bin", data, failures=[(429, {"Retry-After": "1"})])
    began = asyncio.get_running_loop().time()
    assert await fetched(cache, url) == data
    assert asyncio.get_running_loop().time() - began >= 0.9


async def test_an_origin_that_asks_to_wait_for_long_is_not(origin: Origin, cache: Cache) -> None:
    url = origin.put("/a.bin", noise(1000), failures=[(429, {"Retry-After": "3600"})])
    with pytest.raises(TransferFailed):
        await cache.fetch(url)


async def test_redirects_in_a_circle_are_an_error(origin: Origin, cache: Cache) -> None:
    url = origin.put("/a.bin", b"", failures=[(302, {"Location": "/a.bin"})] * 100)
    with pytest.raises(StorageError):
        await cache.fetch(url)


async def test_the_digest_that_the_caller_gives_is_checked(
    origin: Origin, cache: Cache, folder: Path
) -> None:
    data = noise(SIZE)
    url = origin.put("/a.bin", data)
    with pytest.raises(WrongContent, match="sha256"):
        await cache.fetch(url, sha256="0" * 64)
    assert endings(folder) == set()
    right = hashlib.sha256(data).hexdigest()
    assert (await cache.fetch(url, sha256=right.upper())).size == SIZE
    with pytest.raises(WrongContent):
        await cache.fetch(url, sha256="0" * 64)
    assert (await cache.fetch(url, sha256=right)).was_cached


@pytest.mark.parametrize("media_type", ["text/html", "application/octet-stream"])
async def test_a_web_page_in_place_of_a_model_is_refused(
    origin: Origin, cache: Cache, folder: Path, media_type: str
) -> None:
    url = origin.put("/a.safetensors", b"\n<!DOCTYPE html><html>Log in", media_type=media_type)
    with pytest.raises(WrongContent, match="web page"):
        await cache.fetch(url, refuse_html=True)
    assert endings(folder) == set()
    await cache.fetch(url)
    with pytest.raises(WrongContent, match="web page"):
        await cache.fetch(url, refuse_html=True)


async def test_a_compressed_answer_is_no_file(origin: Origin, cache: Cache, folder: Path) -> None:
    url = origin.put("/a.bin", b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    with pytest.raises(WrongContent):
        await cache.fetch(url)
    assert endings(folder) == set()


async def test_a_file_larger_than_the_disk_is_not_begun(
    origin: Origin, cache: Cache, folder: Path
) -> None:
    url = origin.put("/a.bin", noise(1000), length=10**15)
    with pytest.raises(NoSpace) as caught:
        await cache.fetch(url)
    assert caught.value.details["needed_bytes"] == 10**15
    assert endings(folder) == set()


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no small disk can be made")
async def test_a_disk_that_fills_up_on_the_way_is_told_and_emptied(
    origin: Origin, tmp_path: Path
) -> None:
    url = origin.put("/a.bin", noise(8_000_000), length=0)
    small = tmp_path / "small"
    small.mkdir()
    command = (
        f"mount -t tmpfs -o size=4m tmpfs {small} || exit 77; "
        f"{sys.executable} -m tests.cache.worker {small}/cache 0 {url}; ls -A {small}/cache"
    )
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", command),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    output, errors = await process.communicate()
    if process.returncode == 77 or b"unshare" in errors:
        pytest.skip("no small disk can be made")
    assert b"NoSpace" in errors
    assert not [name for name in output.split() if not name.endswith(b".lock")]


async def test_a_large_file_comes_over_several_connections(
    origin: Origin, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "LARGE_BYTES", 1_000_000)
    data = noise(32_000_000)
    assert await fetched(cache, origin.put("/a.bin", data, rate=6_000_000)) == data
    assert 4 <= origin.most_busy <= 8


async def test_several_connections_that_die_still_give_the_whole_file(
    origin: Origin, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "LARGE_BYTES", 1_000_000)
    data = noise(32_000_000)
    url = origin.put("/a.bin", data, rate=10_000_000, cut_every=3_000_000)
    assert await fetched(cache, url) == data


async def test_an_origin_that_takes_one_connection_gives_the_whole_file(
    origin: Origin, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "LARGE_BYTES", 1_000_000)
    data = noise(16_000_000)
    url = origin.put("/a.bin", data, rate=20_000_000)
    file = origin.files["/a.bin"]
    file.on_get = lambda: file.failures.append((403, {})) if origin.busy > 1 else None
    assert await fetched(cache, url) == data


async def test_a_large_file_that_changes_under_several_connections_is_never_mixed(
    origin: Origin, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "LARGE_BYTES", 1_000_000)
    old, new = noise(24_000_000, 1), noise(24_000_000, 2)
    url = origin.put("/a.bin", old, rate=10_000_000)
    file = origin.files["/a.bin"]
    file.on_get = lambda: setattr(file, "content", new) if len(origin.seen) >= 3 else None
    assert await fetched(cache, url) == new


class Careless(HttpBackend):
    """A backend that gives parts of whatever version there is now."""

    def open(self, url: str, auth: Auth | None, span: Span | None, cancel: Cancel) -> HttpDownload:
        return super().open(url, auth, span and Span(span.start, span.end), cancel)


@pytest.mark.parametrize("how", [{"cut_every": 4_000_000}, {"rate": 10_000_000}])
async def test_parts_of_another_version_are_found_out_whatever_the_backend_does(
    origin: Origin, folder: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, int]
) -> None:
    monkeypatch.setattr(transfer, "LARGE_BYTES", 1_000_000)
    old, new = noise(16_000_000, 1), noise(16_000_000, 2)
    url = origin.put("/a.bin", old, **how)
    file = origin.files["/a.bin"]
    file.on_get = lambda: setattr(file, "content", new) if len(origin.seen) == 2 else None
    access = HttpAccess(trusted=frozenset({"*"}))
    backend = Careless(Client(Policy(access), access.proxies), access)
    cache = Cache(folder, lambda _: backend, retry_delays=(0.01, 0.01))
    await cache.start()
    try:
        assert await fetched(cache, url) == new
    finally:
        await cache.close()


async def test_the_connections_of_all_downloads_are_bounded_and_shared_fairly(
    origin: Origin, new_cache: NewCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "LARGE_BYTES", 1_000_000)
    cache = await new_cache(transfers=3)
    large = cache.fetch(origin.put("/large.bin", noise(24_000_000), rate=6_000_000))
    first = asyncio.create_task(large)
    await until(lambda: origin.most_busy >= 3)
    small = [origin.put(f"/{n}.bin", noise(10_000, n)) for n in range(6)]
    await asyncio.gather(*map(cache.fetch, small))
    assert not first.done()
    assert (await first).path.read_bytes() == noise(24_000_000)
    assert origin.most_busy <= 4  # the origin sees a moment later that a connection is closed


async def test_progress_is_told_while_it_is_made(origin: Origin, cache: Cache) -> None:
    gate = threading.Event()
    url = origin.put("/a.bin?token=planted", noise(SIZE), gate=gate)
    task = asyncio.create_task(cache.fetch(url, folder="loras"))
    seen = await until(lambda: [p for p in cache.downloads() if p.bytes])
    gate.set()
    await task
    assert (seen[0].folder, seen[0].total) == ("loras", SIZE)
    assert "planted" not in seen[0].url
    assert 0 < seen[0].bytes <= SIZE
    assert cache.downloads() == ()


async def test_whoever_is_last_to_leave_ends_the_download(origin: Origin, cache: Cache) -> None:
    url = origin.put("/a.bin", noise(SIZE), gate=threading.Event())
    tasks = [asyncio.create_task(cache.fetch(url)) for _ in range(3)]
    await until(cache.downloads)
    for task in tasks[:2]:
        task.cancel()
    await asyncio.sleep(0.05)
    assert cache.downloads()
    tasks[2].cancel()
    await until(lambda: not cache.downloads())


def md5_of(data: bytes) -> dict[str, str]:
    return {"Content-MD5": base64.b64encode(hashlib.md5(data).digest()).decode()}


def etag_of(data: bytes) -> dict[str, str]:
    return {"x-amz-request-id": "1", "ETag": f'"{hashlib.md5(data).hexdigest()}"'}


@pytest.mark.parametrize("headers_of", [md5_of, etag_of])
async def test_what_was_changed_on_its_way_is_fetched_once_more(
    origin: Origin, cache: Cache, folder: Path, headers_of: Callable[[bytes], dict[str, str]]
) -> None:
    data = noise(1000)
    url = origin.put("/a.bin", data[::-1], etag=None, headers=headers_of(data))
    file, comes = origin.files["/a.bin"], iter([data[::-1], data])
    file.on_get = lambda: setattr(file, "content", next(comes))
    assert await fetched(cache, url) == data
    assert len(origin.gets()) == 2
    assert endings(folder) == {".bin", ".meta"}


@pytest.mark.parametrize("headers_of", [md5_of, etag_of])
async def test_what_is_changed_each_time_is_refused(
    origin: Origin, cache: Cache, folder: Path, headers_of: Callable[[bytes], dict[str, str]]
) -> None:
    url = origin.put("/a.bin", b"", etag=None, headers=headers_of(b"another"))
    file, comes = origin.files["/a.bin"], iter([noise(1000, 1), noise(1000, 2)])
    file.on_get = lambda: setattr(file, "content", next(comes))
    with pytest.raises(WrongContent, match="md5"):
        await cache.fetch(url)
    assert len(origin.gets()) == 2
    assert endings(folder) == set()


async def test_an_etag_that_is_no_md5_costs_a_second_fetch_and_no_file(
    origin: Origin, cache: Cache
) -> None:
    data = noise(1000)
    url = origin.put("/a.bin", data, etag=None, headers=etag_of(b"encrypted"))
    assert await fetched(cache, url) == data
    assert len(origin.gets()) == 2


async def test_the_same_content_twice_with_another_md5_is_refused(
    origin: Origin, cache: Cache
) -> None:
    url = origin.put("/a.bin", noise(1000), headers=md5_of(b"another"))
    with pytest.raises(WrongContent, match="md5"):
        await cache.fetch(url)
