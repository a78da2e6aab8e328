"""What stands beside the files of the cache, edited by somebody while nobody looks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.cache import Cache, shelf
from comfyui_stateless.cache.names import key_of
from comfyui_stateless.errors import UnsupportedURL
from tests.cache.conftest import NewCache
from tests.cache.content import noise
from tests.cache.origin import Origin

SIZE = 10_000
HALF = [[SIZE // 2, SIZE]]


def half_there(origin: Origin, folder: Path, url: str, **edited: Any) -> None:
    """Have the first half of a file there, and a note of that beside it."""
    note = {
        "version": origin.files["/a.bin"].tag, "size": SIZE, "gaps": HALF,
        "filename": None, "mediaType": None, "digest": None, **edited,
    }  # fmt: skip
    (folder / f"{key_of(url)}.part").write_bytes(noise(SIZE)[: SIZE // 2])
    (folder / f"{key_of(url)}.state.part").write_text(json.dumps(note))


@pytest.mark.parametrize(
    "edited",
    [
        {"gaps": [[-5, SIZE]]},
        {"gaps": [[SIZE, 5]]},
        {"gaps": [[5, 5]]},
        {"gaps": [[SIZE // 2, SIZE + 1]]},
        {"gaps": [[SIZE // 2, None]]},
        {"gaps": [[5000.5, SIZE]]},
        {"gaps": [["5000", SIZE]]},
        {"gaps": [[5000, SIZE, 1]]},
        {"gaps": [[5000, 8000], [7000, SIZE]]},
        {"gaps": [[0, 10], [0, 10]]},
        {"gaps": 7},
        {"size": "10000"},
        {"size": True},
        {"size": None},
        {"version": 7},
        {"filename": ["a"]},
        {"mediaType": {}},
        {"digest": [1, 2]},
        {"digest": "ab"},
    ],
    ids=str,
)
async def test_a_note_that_was_edited_costs_no_more_than_the_download(
    origin: Origin, cache: Cache, folder: Path, edited: dict[str, Any]
) -> None:
    data = noise(SIZE)
    url = origin.put("/a.bin", data)
    half_there(origin, folder, url, **edited)
    assert (await cache.fetch(url)).path.read_bytes() == data


async def test_a_note_as_it_was_written_is_gone_on_with(
    origin: Origin, cache: Cache, folder: Path
) -> None:
    data = noise(SIZE)
    url = origin.put("/a.bin", data)
    half_there(origin, folder, url)
    assert (await cache.fetch(url)).path.read_bytes() == data
    assert origin.seen[0].range == f"bytes={SIZE // 2}-"


async def test_a_version_that_was_edited_adds_no_header_and_is_forgotten(
    origin: Origin, cache: Cache, folder: Path
) -> None:
    url = origin.put("/a.bin", noise(SIZE))
    half_there(origin, folder, url, version='"a"\r\nX-Added: y')
    with pytest.raises(UnsupportedURL):
        await cache.fetch(url)
    assert origin.seen == []
    assert (await cache.fetch(url)).path.read_bytes() == noise(SIZE)


async def test_a_record_with_a_link_of_no_possible_name_goes_with_its_file(
    origin: Origin, new_cache: NewCache
) -> None:
    cache = await new_cache(limit_bytes=SIZE)
    lease = await cache.fetch(origin.put("/a.bin", noise(SIZE)))
    record = lease.path.with_name(f"{lease.path.name}.meta")
    record.write_text(json.dumps({**json.loads(record.read_text()), "links": ["a\0b", 7, None]}))
    lease.release()
    (await cache.fetch(origin.put("/b.bin", noise(SIZE, 2)))).release()
    assert not lease.path.exists()
    assert not record.exists()


async def test_no_more_files_are_remembered_than_is_reasonable(
    origin: Origin, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "KNOWN", 3)
    urls = [origin.put(f"/{n}.bin", noise(100, n)) for n in range(6)]
    for _ in range(2):
        for number, url in enumerate(urls):
            lease = await cache.fetch(url)
            assert lease.path.read_bytes() == noise(100, number)
            lease.release()
    assert len(cache._shelf._known) == 3
    assert len(origin.seen) == 6
