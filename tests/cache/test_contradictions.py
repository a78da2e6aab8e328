"""Origins that contradict themselves: a file is whole or not there, and may be had later."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from comfyui_stateless.cache import Cache
from comfyui_stateless.errors import NoSpace, StorageError
from tests.cache.conftest import NewCache
from tests.cache.content import noise
from tests.cache.contradicting import CONTENT, answer, breaking_once, chunk, contradicting
from tests.cache.origin import Origin
from tests.cache.watching import endings

ETAG = 'ETag: "a"'


async def fetched(cache: Cache, url: str) -> bytes:
    lease = await cache.fetch(url)
    lease.release()
    return lease.path.read_bytes()


async def test_a_length_beside_chunks_does_not_cut_the_file(cache: Cache) -> None:
    framing = ("Transfer-Encoding: chunked", "Content-Length: 5")
    with contradicting(lambda *_: answer("200 OK", chunk(CONTENT), *framing)) as (url, _):
        assert await fetched(cache, url) == CONTENT


@pytest.mark.parametrize("more", [1, len(CONTENT)])
async def test_a_part_that_is_longer_than_it_says_is_not_taken(
    cache: Cache, folder: Path, more: int
) -> None:
    def part(start: int) -> bytes:
        body = chunk(CONTENT[start - more :] if more <= start else CONTENT)
        said = f"Content-Range: bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        return answer("206 Partial", body, ETAG, said, "Transfer-Encoding: chunked")

    refused = pytest.raises(StorageError, match="more than the part")
    with contradicting(breaking_once(part, ETAG)) as (url, _), refused:
        await fetched(cache, url)
    assert endings(folder) <= {".part"}


async def test_a_part_in_chunks_that_is_as_long_as_it_says_is_taken(cache: Cache) -> None:
    def part(start: int) -> bytes:
        said = f"Content-Range: bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        body = chunk(CONTENT[start:])
        return answer("206 Partial", body, ETAG, said, "Transfer-Encoding: chunked")

    with contradicting(breaking_once(part, ETAG)) as (url, heads):
        assert await fetched(cache, url) == CONTENT
    assert len(heads) == 2


@pytest.mark.parametrize("status", [400, 403, 405, 412, 431, 501])
async def test_an_origin_that_refuses_the_part_it_offers_is_asked_for_all(
    cache: Cache, status: int
) -> None:
    def refused(_: int) -> bytes:
        return answer(f"{status} No", b"", "Content-Length: 0")

    with contradicting(breaking_once(refused, ETAG)) as (url, heads):
        assert await fetched(cache, url) == CONTENT
    assert len(heads) == 3


@pytest.mark.parametrize(
    "etag", ['"a\x01b"', f'"{"x" * 60_000}"'], ids=["a control character", "a long one"]
)
async def test_a_version_that_cannot_be_sent_back_costs_a_new_start(
    cache: Cache, etag: str
) -> None:
    with contradicting(breaking_once(lambda _: b"", f"ETag: {etag}")) as (url, heads):
        assert await fetched(cache, url) == CONTENT
    assert not [head for head in heads if b"If-Range" in head]


@pytest.mark.parametrize("limit", [0, 1000], ids=["without a limit", "with a limit"])
async def test_a_disk_that_others_fill_up_on_the_way_keeps_its_margin(
    origin: Origin, new_cache: NewCache, folder: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    cache = await new_cache(limit_bytes=limit)
    url = origin.put("/a.bin", noise(9_000_000), length=0)
    free = [10**12, 10**12]
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: SimpleNamespace(free=free.pop() if free else 1)
    )
    with pytest.raises(NoSpace):
        await cache.fetch(url)
    assert endings(folder) == set()
