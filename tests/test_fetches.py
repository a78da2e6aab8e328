"""Fetches for inputs: how they fail and end, what they share, as whom they ask, what they tell."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.errors import InvalidInput
from comfyui_stateless.inputs import fetching
from tests.cache.content import noise, safetensors
from tests.cache.origin import Origin
from tests.cache.watching import has_begun, until
from tests.fakes import eventually
from tests.fetching import (
    MODEL,
    PAGE,
    PNG,
    SECRET,
    Cook,
    Kitchen,
    bare,
    holding,
    kitchens,
    loading_all,
    loading_engine,
    picture,
)
from tests.storage.answers import Answer, Call, answering

pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.fixture
async def cook(tmp_path: Path) -> AsyncIterator[Cook]:
    async for cook in kitchens(tmp_path):
        yield cook


@pytest.fixture
def kitchen(cook: Cook) -> Kitchen:
    return cook()


# Failures


@pytest.mark.parametrize(
    ("class_type", "path", "served", "reason", "says"),
    [
        ("LoadImage", "/a.png", None, "object_not_found", "/a.png"),
        ("Checkpoint", "/a.ckpt", None, "object_not_found", "/a.ckpt"),
        ("LoadImage", "/a.png", {"authorization": "x"}, "access_denied", "/a.png"),
        ("LoadImage", "/a.png", {"failures": [(403, {})]}, "access_denied", "/a.png"),
        ("Lora", "/a.safetensors", {"failures": [(500, {})] * 9}, "transfer_failed", "500"),
        ("Lora", "/a.safetensors", {"content": PAGE}, "wrong_content", "web page"),
        ("LoadImage", "/a.png", {"content": PAGE}, "wrong_content", "web page"),
        ("LoadImage", "/a", {"content": PAGE, "media_type": "text/html"}, "wrong_content", "page"),
        ("LoadImage", "/a", {"content": noise(99)}, "wrong_content", "no image, video, sound"),
        ("LoadImage", "/a.png", {"content": b'{"no": 1}'}, "wrong_content", "no image, video"),
        ("LoadImage", "/a.jpg", {"content": b""}, "wrong_content", "no image, video"),
        ("Lora", "/a.safetensors", {"content": MODEL[:-1]}, "wrong_content", "says it has"),
        (
            "Lora",
            "/a.safetensors",
            {"content": MODEL, "cut_every": 0, "ranges": False},
            "transfer_failed",
            "/a.",
        ),
    ],
)
async def test_what_cannot_be_had_says_why_and_leaves_nothing(
    origin: Origin, kitchen: Kitchen, class_type: str, path: str,
    served: dict[str, Any] | None, reason: str, says: str,
) -> None:  # fmt: skip
    if served is not None:
        origin.put(path, **{"content": PNG, **served})
    error = await kitchen.refusal(class_type, origin.url(path))
    assert (error.status, error.code) == (400, "invalid_input")
    assert error.details["reason"] == reason
    assert says in error.message
    kitchen.leave()
    assert (kitchen.engine.links, kitchen.engine.inputs, kitchen.cached) == ({}, {}, [])


async def test_a_private_address_is_refused_where_it_is_not_trusted(
    origin: Origin, cook: Cook
) -> None:
    kitchen = cook(http_trusted_origins="http://127.0.0.1:9")
    for class_type in ("LoadImage", "LoadImages", "Checkpoint", "Diffusers"):
        error = await kitchen.refusal(class_type, origin.put("/a.png", PNG))
        assert error.details["reason"] == "host_refused"
        assert "127.0.0.1" in error.message
    assert origin.seen == []


@pytest.mark.parametrize("served", [PAGE, b'{"error": "try again"}'])
async def test_an_answer_that_was_no_file_is_not_kept(
    origin: Origin, kitchen: Kitchen, served: bytes
) -> None:
    url = origin.put("/a.png", served)
    await kitchen.refusal("LoadImage", url)
    origin.put("/a.png", PNG)
    value = await kitchen.value("LoadImage", url)
    assert kitchen.engine.inputs == {value: (PNG,)}


async def test_a_file_that_was_kept_as_a_model_is_no_picture_for_that(
    origin: Origin, kitchen: Kitchen
) -> None:
    url = origin.put("/a.onnx", noise(100))
    await kitchen.value("Anything", url)
    error = await kitchen.refusal("LoadImage", url)
    assert "no image, video, sound or 3D model" in error.message


async def test_media_without_a_signature_go_by_their_name(origin: Origin, kitchen: Kitchen) -> None:
    content = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
    value = await kitchen.value("LoadNamed", origin.put("/shape.obj", content))
    assert value.endswith(".obj")
    assert kitchen.engine.inputs == {value: (content,)}


async def test_the_first_failure_ends_the_other_fetches_of_its_request(
    origin: Origin, kitchen: Kitchen
) -> None:
    async with holding() as slow, holding(PNG * 99, "held.png") as slow_too:
        gate = threading.Event()
        origin.put("/a.png", PNG, failures=[(404, {})], on_get=lambda: gate.wait(10))
        graph = loading_all(
            ("Checkpoint", slow.url), ("LoadImage", slow_too.url),
            ("LoadImage", origin.url("/a.png")),
        )  # fmt: skip
        preparing = asyncio.ensure_future(kitchen.prepared(graph))
        await slow.is_asked()
        await slow_too.is_asked()
        gate.set()
        with pytest.raises(InvalidInput) as caught:
            await preparing
        assert caught.value.location == "prompt.3.inputs.image"
        await slow.is_left()
        await slow_too.is_left()
        await eventually(lambda: kitchen.services.cache.downloads() == ())
    kitchen.leave()
    assert (kitchen.engine.links, kitchen.engine.inputs) == ({}, {})


async def test_a_fetch_that_another_request_waits_for_goes_on(
    origin: Origin, kitchen: Kitchen
) -> None:
    async with holding() as slow:
        waiting = asyncio.ensure_future(kitchen.value("Lora", slow.url))
        await slow.is_asked()
        with pytest.raises(InvalidInput):
            await kitchen.prepared(
                loading_all(("Lora", slow.url), ("LoadImage", origin.url("/missing.png")))
            )
        slow.release()
        value = await waiting
        assert (slow.asked, slow.left) == (1, 0)
    assert kitchen.engine.links["loras", value].read_bytes() == MODEL


async def test_a_preparation_that_is_cancelled_ends_its_fetches(kitchen: Kitchen) -> None:
    async with holding() as slow:
        preparing = asyncio.ensure_future(kitchen.value("Lora", slow.url))
        await slow.is_asked()
        preparing.cancel()
        await slow.is_left()
    with pytest.raises(asyncio.CancelledError):
        await preparing


# The cache


async def test_what_is_cached_costs_no_network(origin: Origin, cook: Cook) -> None:
    sent = [("Lora", origin.put("/a.safetensors", MODEL)), ("LoadImage", origin.put("/a.png", PNG))]
    first = await cook().prepared(loading_all(*sent))
    assert len(origin.seen) == 2
    origin.files.clear()
    again = await cook().prepared(loading_all(*sent))
    assert len(origin.seen) == 2
    assert all(again.graph[number] == first.graph[number] for number in "12")


async def test_one_url_is_fetched_once_however_many_ask(origin: Origin, kitchen: Kitchen) -> None:
    model, image = origin.put("/a.safetensors", MODEL), origin.put("/a.png", PNG)
    sent = [("Lora", model), ("Lora", model), ("LoadImage", image), ("LoadNamed", image)]
    prompts = await asyncio.gather(*(kitchen.prepared(loading_all(*sent)) for _ in range(5)))
    assert [seen.method for seen in origin.seen] == ["GET", "GET"]
    assert len({str({n: p.graph[n] for n in "1234"}) for p in prompts}) == 1


async def test_what_a_job_needs_stays_until_it_ends_however_full_the_cache_is(
    origin: Origin, cook: Cook, tmp_path: Path
) -> None:
    engine = loading_engine(models_root=tmp_path / "models")
    kitchen = cook(engine, lru_cache_size_gb=1 / 2**30)
    urls = [origin.put(f"/{n}.safetensors", safetensors(64, seed=n)) for n in range(3)]
    folder = tmp_path / "models" / "loras"
    links = [folder / await kitchen.value("Lora", url) for url in urls[:2]]
    assert [link.exists() for link in links] == [True, True]
    kitchen.leave()
    await kitchen.value("Lora", urls[2])
    assert [link.is_symlink() for link in links] == [False, False]


# Credentials

BEARER = {"type": "bearer", "token": SECRET}

CREDENTIALS = {
    "bearer": (BEARER, {"authorization": f"Bearer {SECRET}"}, ""),
    "basic": (
        {"type": "basic", "username": "me", "password": SECRET},
        {"authorization": f"Basic {bare(f'me:{SECRET}'.encode())}"}, "",
    ),
    "header": (
        {"type": "header", "header_name": "X-Key", "header_value": SECRET}, {"x-key": SECRET}, "",
    ),
    "query": ({"type": "query", "query_param": "sig", "query_value": SECRET}, {}, f"?sig={SECRET}"),
}  # fmt: skip


def credential(auth: Mapping[str, Any], pattern: str = "**") -> dict[str, Any]:
    return {"url_pattern": pattern, "auth": auth}


@pytest.mark.parametrize("kind", CREDENTIALS)
@pytest.mark.parametrize("class_type", ["LoadImage", "Anything", "LoadImages"])
async def test_credentials_of_a_request_are_used_for_its_fetches(
    origin: Origin, kitchen: Kitchen, kind: str, class_type: str
) -> None:
    auth, headers, query = CREDENTIALS[kind]
    url = origin.put("/a.png", PNG)
    await kitchen.value(class_type, url, credentials=[credential(auth)])
    (seen,) = origin.seen
    assert headers.items() <= seen.headers.items()
    assert seen.path == f"/a.png{query}"


async def test_keys_for_s3_sign_the_request(kitchen: Kitchen) -> None:
    calls: list[Call] = []
    with answering(lambda call: Answer(body=PNG), calls) as endpoint:
        keys = {"access_key_id": "KEY", "secret_access_key": SECRET, "region": "eu-north-1"}
        auth = {"type": "s3", "endpoint": endpoint, **keys}
        value = await kitchen.value(
            "LoadImage", "s3://bucket/a.png", credentials=[credential(auth)]
        )
    assert kitchen.engine.inputs == {value: (PNG,)}
    assert "X-Amz-Credential=KEY%2F" in calls[-1].query
    assert "eu-north-1" in calls[-1].query
    assert SECRET not in str(calls)


async def test_the_first_pattern_that_fits_wins(origin: Origin, kitchen: Kitchen) -> None:
    for path in ("/a/x.png", "/b/x.png", "/c/d/x.png", "/x.png"):
        origin.put(path, picture(shade=len(path)))
    credentials = [
        credential({**BEARER, "token": "first"}, origin.url("/a/*")),
        credential({**BEARER, "token": "second"}, origin.url("/?/*")),
        credential({**BEARER, "token": "third"}, origin.url("/*/**")),
    ]
    sent = [("LoadImage", origin.url(path)) for path in sorted(origin.files)]
    await kitchen.prepared(loading_all(*sent), credentials=credentials)
    used = {seen.path: seen.headers.get("authorization") for seen in origin.seen}
    assert used == {
        "/a/x.png": "Bearer first",
        "/b/x.png": "Bearer second",
        "/c/d/x.png": "Bearer third",
        "/x.png": None,
    }


async def test_what_came_with_credentials_is_not_for_those_without(
    origin: Origin, kitchen: Kitchen
) -> None:
    url = origin.put("/a.png", PNG, authorization=f"Bearer {SECRET}")
    await kitchen.value("LoadImage", url, credentials=[credential(BEARER)])
    error = await kitchen.refusal("LoadImage", url)
    assert error.details["reason"] == "access_denied"
    wrong = [credential({**BEARER, "token": "guessed"})]
    error = await kitchen.refusal("LoadImage", url, credentials=wrong)
    assert error.details["reason"] == "access_denied"
    await kitchen.value("LoadImage", url, credentials=[credential(BEARER)])
    assert len(origin.gets()) == 1


@pytest.mark.parametrize("class_type", ["LoadImage", "Anything", "Diffusers"])
async def test_no_error_holds_a_secret_of_its_url(
    origin: Origin, kitchen: Kitchen, class_type: str
) -> None:
    origin.put("/a.bin", PAGE)
    for path in ("/a.bin", "/missing"):
        url = origin.url(f"{path}?sig={SECRET}#{SECRET}", f"me:{SECRET}")
        error = await kitchen.refusal(class_type, url)
        assert SECRET not in str(error.body())


# Progress


def events(kitchen: Kitchen, location: str) -> Sequence[Mapping[str, Any]]:
    return [told for told in kitchen.told if told["location"] == location]


async def test_it_is_told_of_every_fetch_what_it_brought(origin: Origin, kitchen: Kitchen) -> None:
    model = origin.put(f"/a.safetensors?sig={SECRET}", MODEL)
    origin.put("/a.png", PNG)
    image = origin.url("/a.png", f"me:{SECRET}")
    await kitchen.prepared(loading_all(("Lora", model), ("LoadImage", image)))
    assert events(kitchen, "prompt.1.inputs.name")[-1] == {
        "location": "prompt.1.inputs.name",
        "url": f"{origin.url('/a.safetensors')}?…",
        "bytes": len(MODEL),
        "total": len(MODEL),
    }
    last = events(kitchen, "prompt.2.inputs.image")[-1]
    assert (last["url"], last["bytes"], last["total"]) == (
        origin.url("/a.png"), len(PNG), len(PNG),
    )  # fmt: skip
    assert SECRET not in str(kitchen.told)


async def test_it_is_told_how_far_a_fetch_is_while_it_goes_on(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "PROGRESS_INTERVAL_S", 0.01)
    async with holding() as slow:
        preparing = asyncio.ensure_future(kitchen.value("Lora", slow.url))
        await until(has_begun(kitchen.services.cache))
        half = len(MODEL) // 2
        told = {"location": "prompt.1.inputs.name", "url": slow.url, "bytes": half}
        await until(lambda: {**told, "total": len(MODEL)} in kitchen.told)
        slow.release()
        await preparing
    assert kitchen.told[-1]["bytes"] == len(MODEL)


async def test_of_a_cached_file_it_is_told_that_it_is_there(
    origin: Origin, kitchen: Kitchen
) -> None:
    url = origin.put("/a.png", PNG)
    await kitchen.value("LoadImage", url)
    kitchen.told.clear()
    await kitchen.value("LoadImage", url)
    assert [told["bytes"] for told in kitchen.told] == [len(PNG)]
