"""`POST /download` and `GET /download`: what they answer, what they refuse, what they show."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.cache.names import key_of
from tests.api.conftest import Serve, Site
from tests.cache.content import noise, safetensors
from tests.cache.origin import Origin
from tests.fakes import FakeEngine, eventually
from tests.fetching import (
    MODEL,
    PAGE,
    PNG,
    SECRET,
    bare,
    contents,
    holding,
    kept,
    loading_all,
    loading_engine,
)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
async def site(serve: Serve, models: Path) -> Site:
    return await serve(FakeEngine(models_root=models))


async def posted(site: Site, url: str, **fields: Any) -> tuple[int, dict[str, Any]]:
    fields = {"url": url, "model_type": "loras", **fields}
    async with site.client.post("/download", json=fields) as response:
        return response.status, await response.json()


async def listed(site: Site) -> list[dict[str, Any]]:
    async with site.client.get("/download") as response:
        assert response.status == 200
        reply: dict[str, list[dict[str, Any]]] = await response.json()
    return reply["downloads"]


async def listed_when(
    site: Site, holds: Callable[[list[dict[str, Any]]], bool]
) -> list[dict[str, Any]]:
    """Return the list of downloads when it is as wanted; fail if that takes too long."""
    deadline = asyncio.get_running_loop().time() + 5
    while not holds(found := await listed(site)):
        assert asyncio.get_running_loop().time() < deadline, found
        await asyncio.sleep(0.005)
    return found


def linked(models: Path) -> dict[str, bytes]:
    found = [path for path in sorted(models.rglob("*")) if path.is_file()]
    return {path.relative_to(models).as_posix(): path.read_bytes() for path in found}


async def test_who_does_not_wait_is_told_that_it_has_started(
    origin: Origin, site: Site, models: Path
) -> None:
    url = origin.put("/style.safetensors", MODEL)
    status, reply = await posted(site, f"{url}?sig={SECRET}")
    assert status == 202
    assert reply == {
        "url": f"{url}?…",
        "model_type": "loras",
        "filename": "style.safetensors",
        "status": "started",
    }
    await eventually(lambda: linked(models) == {"loras/style.safetensors": MODEL})


async def test_who_waits_is_told_what_came(origin: Origin, site: Site, models: Path) -> None:
    url = origin.put("/style.safetensors", MODEL)
    status, reply = await posted(site, url, wait=True)
    assert status == 200
    assert reply.pop("duration") >= 0
    assert reply == {
        "url": url,
        "model_type": "loras",
        "filename": "style.safetensors",
        "status": "completed",
        "size": len(MODEL),
    }
    assert linked(models) == {"loras/style.safetensors": MODEL}


async def test_the_name_may_be_given(origin: Origin, site: Site, models: Path) -> None:
    url = origin.put("/download/7", MODEL)
    _, reply = await posted(site, url, filename="mine/style.safetensors", wait=True)
    assert reply["filename"] == "mine/style.safetensors"
    _, reply = await posted(site, url, wait=True)
    assert reply["filename"] == "7.safetensors"
    assert set(linked(models)) == {"loras/mine/style.safetensors", "loras/7.safetensors"}


async def test_a_name_of_ours_is_given_to_the_newer_model(
    origin: Origin, site: Site, models: Path
) -> None:
    newer = safetensors(64, seed=2)
    for path, content in (("/1", MODEL), ("/2", newer)):
        url = origin.put(f"{path}/style.safetensors", content)
        assert (await posted(site, url, wait=True))[0] == 200
    assert linked(models) == {"loras/style.safetensors": newer}


async def test_the_digest_is_checked(origin: Origin, site: Site, models: Path) -> None:
    url = origin.put("/style.safetensors", MODEL)
    status, reply = await posted(site, url, sha256="0" * 64, wait=True)
    assert (status, reply["details"]["reason"]) == (400, "wrong_content")
    assert "sha256" in reply["error"]
    assert linked(models) == {}
    right = hashlib.sha256(MODEL).hexdigest()
    assert (await posted(site, url, sha256=right, wait=True))[0] == 200


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize(
    ("fields", "location"),
    [
        ({"model_type": "unheard"}, None),
        ({"model_type": "custom_nodes"}, None),
        ({"model_type": "../loras"}, None),
        ({"model_type": "/tmp"}, None),
        ({"model_type": ""}, "model_type"),
        ({"filename": "../style.safetensors"}, "filename"),
        ({"filename": "/tmp/style.safetensors"}, "filename"),
        ({"filename": "a/../../style.safetensors"}, "filename"),
        ({"filename": ""}, "filename"),
        ({"url": ""}, "url"),
        ({"url": "ftp://host/style.safetensors"}, "url"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"sha256": "no digest"}, "sha256"),
        ({"wait": "yes"}, "wait"),
        ({"auth": {"type": "bearer"}}, "auth.bearer.token"),
        ({"auth": {"type": "other", "token": SECRET}}, "auth"),
    ],
)
async def test_what_will_not_do_is_a_400_at_once(
    origin: Origin, site: Site, models: Path, wait: bool, fields: dict[str, Any],
    location: str | None,
) -> None:  # fmt: skip
    fields = {"url": origin.put("/style.safetensors", MODEL), "wait": wait, **fields}
    status, reply = await posted(site, **fields)
    assert status == 400
    assert reply["error"]
    assert reply.get("location") == location
    assert SECRET not in str(reply)
    assert (origin.seen, linked(models)) == ([], {})


@pytest.mark.parametrize(
    ("served", "reason"),
    [
        (None, "object_not_found"),
        ({"authorization": "x"}, "access_denied"),
        ({"failures": [(500, {})] * 9}, "transfer_failed"),
        ({"content": PAGE}, "wrong_content"),
    ],
)
async def test_what_cannot_be_had_is_a_400_for_who_waits(
    origin: Origin, site: Site, models: Path, served: Any, reason: str
) -> None:
    if served is not None:
        origin.put("/style.safetensors", **{"content": MODEL, **served})
    status, reply = await posted(site, origin.url("/style.safetensors"), wait=True)
    assert (status, reply["code"], reply["location"]) == (400, "invalid_input", "url")
    assert reply["details"]["reason"] == reason
    assert "/style.safetensors" in reply["error"]
    assert linked(models) == {}
    assert kept(site.services.settings.cache_dir) == []


async def test_a_cache_that_cannot_be_used_is_no_400(
    origin: Origin, site: Site, models: Path
) -> None:
    url = origin.put("/style.safetensors", MODEL)
    (site.services.settings.cache_dir / f"{key_of(url)}.part").mkdir(parents=True)
    status, reply = await posted(site, url, wait=True)
    assert (status, reply["code"]) == (503, "folder_failed")
    assert linked(models) == {}


async def test_a_file_of_somebody_elses_is_a_400_and_stays(
    origin: Origin, site: Site, models: Path
) -> None:
    mine = models / "loras" / "style.safetensors"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    status, reply = await posted(site, origin.put("/style.safetensors", MODEL), wait=True)
    assert (status, "style.safetensors" in reply["error"]) == (400, True)
    assert mine.read_bytes() == b"mine"


async def test_downloads_are_listed_while_they_last(site: Site) -> None:
    content = noise(400_000)
    assert await listed(site) == []
    async with holding(content, "style.ckpt") as slow:
        url = slow.url.replace("://", f"://me:{SECRET}@")
        await posted(site, f"{url}?sig={SECRET}", model_type="checkpoints")
        half = len(content) // 2
        (shown,) = await listed_when(site, lambda d: bool(d) and d[0]["bytes"] == half)
        assert shown.pop("rate") > 0
        assert shown == {
            "url": f"{slow.url}?…",
            "folder": "checkpoints",
            "bytes": half,
            "total": len(content),
        }
        slow.release()
        await listed_when(site, lambda d: d == [])


async def test_what_prompts_download_is_listed_too(serve: Serve) -> None:
    site = await serve(loading_engine())
    async with holding() as model, holding(PNG, "a.png") as image:
        graph = loading_all(("Lora", model.url), ("LoadImage", image.url))
        waiting = asyncio.ensure_future(site.prompt(prompt=graph))
        shown = await listed_when(site, lambda d: len(d) == 2)
        assert {each["url"]: each["folder"] for each in shown} == {
            model.url: "loras",
            image.url: None,
        }
        model.release()
        image.release()
        async with await waiting as response:
            assert response.status == 200


async def test_a_download_and_a_prompt_that_want_one_url_fetch_it_once(
    serve: Serve, models: Path
) -> None:
    site = await serve(loading_engine(models_root=models))
    async with holding() as slow:
        first = asyncio.ensure_future(posted(site, slow.url, wait=True))
        await slow.is_asked()
        second = asyncio.ensure_future(site.prompt(prompt=loading_all(("Lora", slow.url))))
        slow.release()
        assert (await first)[0] == 200
        async with await second as response:
            assert response.status == 200
        assert slow.asked == 1
    assert len(linked(models)) == 2


@pytest.mark.parametrize("path", ["/style.safetensors", "/missing", "/page.safetensors"])
@pytest.mark.parametrize(
    "auth",
    [
        None,
        {"type": "bearer", "token": SECRET},
        {"type": "basic", "username": "me", "password": SECRET},
        {"type": "header", "header_name": "X-Key", "header_value": SECRET},
        {"type": "query", "query_param": "sig", "query_value": SECRET},
    ],
    ids=["URL", "bearer", "basic", "header", "query"],
)
async def test_no_secret_of_a_download_is_told(
    origin: Origin, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    auth: dict[str, str] | None, path: str,
) -> None:  # fmt: skip
    caplog.set_level("DEBUG")
    origin.put("/style.safetensors", MODEL)
    origin.put("/page.safetensors", PAGE)
    secret = auth is None
    url = origin.url(path + f"?key={SECRET}" * secret, f"me:{SECRET}" * secret)
    for wait in (False, True):
        status, reply = await posted(site, url, wait=wait, **({"auth": auth} if auth else {}))
        assert status == (400 if wait and "style" not in path else 200 if wait else 202)
        assert SECRET not in str(reply)
        await eventually(lambda: "failed" in caplog.text or "Downloaded" in caplog.text)
        assert SECRET not in str(await listed(site))
    told = str([(seen.path, seen.headers) for seen in origin.seen])
    assert SECRET in told or bare(f"me:{SECRET}".encode()) in told
    assert SECRET not in caplog.text
    assert SECRET.encode() not in contents(tmp_path)
