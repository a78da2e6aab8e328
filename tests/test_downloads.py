"""Models that are fetched ahead of time: what they are called, and how a download ends."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.cache.names import key_of
from comfyui_stateless.downloads import Downloads
from comfyui_stateless.errors import FolderFailed, InvalidInput, NoSpace, Unavailable
from comfyui_stateless.pipeline import Services
from comfyui_stateless.requests import DownloadRequest
from tests.cache.content import noise, safetensors
from tests.cache.origin import Origin
from tests.fakes import FakeEngine, eventually
from tests.fetching import MODEL, PAGE, SECRET, holding, kept
from tests.wiring import end, services_for

pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    services = services_for(FakeEngine(models_root=tmp_path / "models"), tmp_path)
    yield services
    await end(services)


@pytest.fixture
def downloads(services: Services) -> Downloads:
    return services.downloads


def wanted(url: str, model_type: str = "loras", **fields: Any) -> DownloadRequest:
    return DownloadRequest.model_validate({"url": url, "model_type": model_type, **fields})


def linked(folder: Path) -> dict[str, bytes]:
    """Return what lies in the model folders, by path."""
    models = folder / "models"
    found = [path for path in sorted(models.rglob("*")) if path.is_file()]
    return {path.relative_to(models).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize(
    ("url", "filename", "expected"),
    [
        ("https://h/a/style.safetensors", None, "style.safetensors"),
        ("https://h/a/style.safetensors?download=true#x", None, "style.safetensors"),
        ("https://me:pass@h/My%20style%21.ckpt", None, "My style!.ckpt"),
        ("https://h/a%2Fb%2Fc.ckpt", None, "c.ckpt"),
        ("https://h/%2e%2e%2f%2e%2e%2fc.ckpt", None, "c.ckpt"),
        ("s3://bucket/a/My%20style.ckpt", None, "My%20style.ckpt"),
        ("https://h/model", None, "model"),
        ("https://h/model", "style.ckpt", "style.ckpt"),
        ("https://h/", "below/style.ckpt", "below/style.ckpt"),
    ],
)
def test_a_model_is_called_as_asked_or_as_its_url(
    downloads: Downloads, url: str, filename: str | None, expected: str
) -> None:
    assert downloads.check(wanted(url, filename=filename)) == expected


@pytest.mark.parametrize(
    ("fields", "location", "says"),
    [
        ({"filename": "../style.ckpt"}, "filename", "inside the model folder"),
        ({"filename": "a/../../style.ckpt"}, "filename", "inside the model folder"),
        ({"filename": "/etc/style.ckpt"}, "filename", "inside the model folder"),
        ({"filename": "..\\style.ckpt"}, "filename", "inside the model folder"),
        ({"filename": "c:\\style.ckpt"}, "filename", "inside the model folder"),
        ({"filename": "a\0b.ckpt"}, "filename", "inside the model folder"),
        ({"filename": "."}, "filename", "inside the model folder"),
        ({"url": "https://h/"}, "filename", "no file name"),
        ({"url": "https://h/.."}, "filename", "inside the model folder"),
        ({"url": "https://h/%2e%2e"}, "filename", "inside the model folder"),
        ({"url": "ftp://h/style.ckpt"}, "url", "ftp"),
        ({"url": "file:///etc/style.ckpt"}, "url", "file"),
        ({"model_type": "nothing"}, None, "nothing"),
        ({"model_type": "../loras"}, None, "../loras"),
    ],
)
def test_what_will_not_do_is_refused_at_once(
    downloads: Downloads, fields: dict[str, str], location: str | None, says: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        downloads.check(wanted(**{"url": "https://h/style.ckpt", **fields}))
    assert (caught.value.status, caught.value.location) == (400, location)
    assert says in caught.value.message


async def test_a_model_is_in_its_folder_when_it_is_fetched(
    origin: Origin, downloads: Downloads, tmp_path: Path
) -> None:
    done = await downloads.fetch(wanted(origin.put("/style.safetensors", MODEL)))
    assert (done.filename, done.size) == ("style.safetensors", len(MODEL))
    assert done.seconds > 0
    assert linked(tmp_path) == {"loras/style.safetensors": MODEL}


async def test_a_name_without_an_extension_gets_the_files_own(
    origin: Origin, downloads: Downloads, tmp_path: Path
) -> None:
    url = origin.put("/download/7", MODEL)
    await downloads.fetch(wanted(url))
    await downloads.fetch(wanted(url, filename="below/style"))
    assert set(linked(tmp_path)) == {"loras/7.safetensors", "loras/below/style.safetensors"}


async def test_a_name_of_ours_is_given_to_the_newer_model(
    origin: Origin, downloads: Downloads, tmp_path: Path
) -> None:
    newer = safetensors(64, seed=2)
    await downloads.fetch(wanted(origin.put("/1/style.safetensors", MODEL)))
    await downloads.fetch(wanted(origin.put("/2/style.safetensors", newer)))
    assert linked(tmp_path) == {"loras/style.safetensors": newer}


async def test_a_file_of_somebody_elses_stays(
    origin: Origin, downloads: Downloads, tmp_path: Path
) -> None:
    mine = tmp_path / "models" / "loras" / "style.safetensors"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(InvalidInput, match=r"style\.safetensors"):
        await downloads.fetch(wanted(origin.put("/style.safetensors", MODEL)))
    assert mine.read_bytes() == b"mine"


async def test_a_cached_model_is_linked_without_network(
    origin: Origin, downloads: Downloads, tmp_path: Path
) -> None:
    url = origin.put("/style.safetensors", MODEL)
    await downloads.fetch(wanted(url))
    await downloads.fetch(wanted(url, "anything", filename="other.safetensors"))
    assert len(origin.seen) == 1
    assert len(linked(tmp_path)) == 2


async def test_a_download_makes_room_for_a_later_one_and_takes_its_link_along(
    origin: Origin, tmp_path: Path
) -> None:
    engine = FakeEngine(models_root=tmp_path / "models")
    services = services_for(engine, tmp_path, lru_cache_size_gb=1 / 2**30)
    for number in range(2):
        url = origin.put(f"/{number}.safetensors", safetensors(64, seed=number))
        await services.downloads.fetch(wanted(url))
    await end(services)
    models = tmp_path / "models" / "loras"
    assert [path.name for path in models.iterdir()] == ["1.safetensors"]


async def test_the_content_has_to_hash_to_what_is_given(
    origin: Origin, downloads: Downloads, tmp_path: Path
) -> None:
    url = origin.put("/style.safetensors", MODEL)
    with pytest.raises(InvalidInput, match="sha256") as caught:
        await downloads.fetch(wanted(url, sha256="0" * 64))
    assert caught.value.details["reason"] == "wrong_content"
    assert (linked(tmp_path), kept(tmp_path / "cache")) == ({}, [])
    right = hashlib.sha256(MODEL).hexdigest()
    await downloads.fetch(wanted(url, sha256=right.upper()))
    assert linked(tmp_path) == {"loras/style.safetensors": MODEL}


@pytest.mark.parametrize(
    ("served", "reason"),
    [
        (None, "object_not_found"),
        ({"authorization": "x"}, "access_denied"),
        ({"failures": [(503, {})] * 9}, "transfer_failed"),
        ({"content": PAGE}, "wrong_content"),
    ],
)
async def test_a_failure_is_the_requests_and_leaves_nothing(
    origin: Origin, downloads: Downloads, tmp_path: Path, served: Any, reason: str
) -> None:
    if served is not None:
        origin.put("/style.safetensors", **{"content": MODEL, "ranges": False, **served})
    with pytest.raises(InvalidInput) as caught:
        await downloads.fetch(wanted(origin.url(f"/style.safetensors?sig={SECRET}")))
    error = caught.value
    assert (error.status, error.location, error.details["reason"]) == (400, "url", reason)
    assert "/style." in error.message
    assert SECRET not in str(error.body())
    assert (linked(tmp_path), kept(tmp_path / "cache")) == ({}, [])


async def test_a_full_disk_is_the_servers_and_leaves_nothing(
    origin: Origin, downloads: Downloads, tmp_path: Path
) -> None:
    url = origin.put("/style.safetensors", MODEL, ranges=False, length=10**15)
    with pytest.raises(NoSpace, match="CACHE_DIR is too full") as caught:
        await downloads.fetch(wanted(url))
    assert caught.value.status == 507
    assert (linked(tmp_path), kept(tmp_path / "cache")) == ({}, [])


@pytest.mark.parametrize("occupied", ["{}.fetch.lock", "{}.part", "records.lock"])
async def test_a_folder_of_the_cache_that_cannot_be_used_is_the_servers(
    origin: Origin, downloads: Downloads, tmp_path: Path, occupied: str
) -> None:
    url = origin.put("/style.safetensors", MODEL)
    (tmp_path / "cache" / occupied.format(key_of(url))).mkdir(parents=True)
    with pytest.raises(FolderFailed, match="CACHE_DIR cannot be used") as caught:
        await downloads.fetch(wanted(url))
    assert (caught.value.status, linked(tmp_path)) == (503, {})
    assert str(tmp_path) not in str(caught.value.body())


async def test_a_server_that_ends_does_not_say_that_the_request_is_wrong(
    downloads: Downloads, services: Services
) -> None:
    async with holding() as slow:
        waiting = asyncio.ensure_future(downloads.fetch(wanted(slow.url)))
        await slow.is_asked()
        await services.cache.close()
        with pytest.raises(Unavailable):
            await waiting


async def test_a_private_address_is_refused_where_it_is_not_trusted(
    origin: Origin, tmp_path: Path
) -> None:
    services = services_for(FakeEngine(), tmp_path, http_trusted_origins=None)
    with pytest.raises(InvalidInput) as caught:
        await services.downloads.fetch(wanted(origin.put("/style.safetensors", MODEL)))
    await end(services)
    assert caught.value.details["reason"] == "host_refused"
    assert origin.seen == []


async def test_credentials_are_those_of_the_request(origin: Origin, downloads: Downloads) -> None:
    url = origin.put("/style.safetensors", MODEL, authorization=f"Bearer {SECRET}")
    done = await downloads.fetch(wanted(url, auth={"type": "bearer", "token": SECRET}))
    assert done.size == len(MODEL)


async def test_a_download_that_nobody_waits_for_ends_in_the_log(
    origin: Origin, downloads: Downloads, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    there = origin.put("/style.safetensors", MODEL, authorization=f"Bearer {SECRET}")
    downloads.start(wanted(f"{there}?sig={SECRET}", auth={"type": "bearer", "token": SECRET}))
    downloads.start(wanted(origin.url(f"/missing\n.ckpt?sig={SECRET}", f"me:{SECRET}")))
    await eventually(lambda: bool(linked(tmp_path)) and "failed" in caplog.text)
    await eventually(lambda: f"as style.safetensors: {len(MODEL)} bytes" in caplog.text)
    assert "/missing" in caplog.text
    assert SECRET not in caplog.text
    assert all("\n" not in record.getMessage() for record in caplog.records)


async def test_a_download_that_fails_without_a_reason_ends_in_the_log_too(
    origin: Origin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "models").write_bytes(b"no folder")
    services = services_for(FakeEngine(models_root=tmp_path / "models"), tmp_path)
    services.downloads.start(wanted(origin.put("/style.safetensors", MODEL)))
    await eventually(lambda: "failed" in caplog.text)
    await end(services)
    assert "NotADirectoryError" in caplog.text


async def test_downloads_under_way_are_listed_until_they_end(
    downloads: Downloads, tmp_path: Path
) -> None:
    content = noise(400_000)
    async with holding(content, "style.ckpt") as slow:
        downloads.start(wanted(f"{slow.url}?sig={SECRET}", "checkpoints"))
        await eventually(lambda: any(d.bytes for d in downloads.under_way()))
        (under_way,) = downloads.under_way()
        assert (under_way.url, under_way.folder) == (f"{slow.url}?…", "checkpoints")
        assert under_way.total == len(content)
        await eventually(lambda: downloads.under_way()[0].bytes == len(content) // 2)
        assert downloads.under_way()[0].rate > 0
        slow.release()
        await eventually(lambda: downloads.under_way() == () and bool(linked(tmp_path)))


async def test_a_download_that_is_left_ends(downloads: Downloads) -> None:
    async with holding() as slow:
        waiting = asyncio.ensure_future(downloads.fetch(wanted(slow.url)))
        await slow.is_asked()
        waiting.cancel()
        await slow.is_left()
    with pytest.raises(asyncio.CancelledError):
        await waiting
