"""Inputs from anywhere, through HTTP: what comes back, what is left, and that no secret leaves."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData

from tests.api.conftest import Serve, Site
from tests.cache.origin import Origin
from tests.fakes import eventually
from tests.fetching import (
    FILES,
    INPUTS,
    MODEL,
    PAGE,
    PNG,
    SECRET,
    bare,
    contents,
    data_url,
    holding,
    kept,
    loading,
    loading_all,
    loading_engine,
    picture,
)
from tests.storage.answers import Answer, Call, answering


async def posted(site: Site, graph: Mapping[str, Any], **fields: Any) -> tuple[int, dict[str, Any]]:
    async with site.prompt(prompt=graph, **fields) as response:
        return response.status, await response.json()


def form(graph: Mapping[str, Any], **files: bytes) -> FormData:
    data = FormData({"request": json.dumps({"prompt": graph})}, default_to_multipart=True)
    for name, content in files.items():
        data.add_field(name, BytesIO(content), filename="mine.bin")
    return data


def is_clean(site: Site) -> bool:
    """Say whether nothing of any job is left."""
    engine, cache = site.engine, site.services.cache
    folders = any(folder.exists() for folder in engine.workspaces)
    return not (engine.inputs or folders or cache.downloads() or site.services.jobs.depth())


async def test_a_graph_runs_with_what_its_urls_and_data_hold(origin: Origin, serve: Serve) -> None:
    site = await serve(loading_engine())
    sent = [
        ("LoadImage", origin.put("/a.png", PNG)),
        ("LoadImage", data_url(picture(shade=2))),
        ("LoadNamed", bare(FILES["jpeg"][0])),
        ("Lora", origin.put("/style.safetensors", MODEL)),
    ]
    status, reply = await posted(site, loading_all(*sent))
    assert status == 200
    (ran,) = site.engine.prompts
    for number, (class_type, value) in enumerate(sent, 1):
        name = INPUTS[class_type]
        used = ran.graph[str(number)]["inputs"][name]
        assert used != value
        assert reply["prompt"][str(number)]["inputs"][name] == used
    assert set(site.engine.links) == {("loras", ran.graph["4"]["inputs"]["name"])}
    assert is_clean(site)


async def test_files_of_a_form_are_what_their_names_stand_for(serve: Serve) -> None:
    site = await serve(loading_engine())
    graph = loading_all(
        ("LoadImage", "upload://face"), ("LoadImages", ["upload://mask", "upload://face"])
    )
    mask = picture("webp")
    async with site.client.post("/prompt", data=form(graph, face=PNG, mask=mask)) as response:
        assert response.status == 200
        reply = await response.json()
    assert reply["prompt"]["1"]["inputs"]["image"].endswith(".png")
    assert len(site.engine.given) == 2
    assert is_clean(site)


@pytest.mark.parametrize(
    ("files", "sent"), [({"face": PNG, "mask": PNG}, "face, mask"), ({}, "none")]
)
async def test_a_part_that_is_not_there_is_a_400_that_names_those_that_are(
    serve: Serve, files: dict[str, bytes], sent: str
) -> None:
    site = await serve(loading_engine())
    graph = loading("LoadImage", "upload://picture")
    async with site.client.post("/prompt", data=form(graph, **files)) as response:
        assert response.status == 400
        reply = await response.json()
    assert (reply["code"], reply["location"]) == ("invalid_input", "prompt.1.inputs.image")
    assert reply["error"].endswith(f"'picture'; it has: {sent}.")
    assert site.engine.ran == []
    assert is_clean(site)


FAILURES = {
    "a file that is not there": ("LoadImage", "/missing.png", "object_not_found"),
    "a model that is not there": ("Checkpoint", "/missing.ckpt", "object_not_found"),
    "a page in place of a model": ("Lora", "/page.safetensors", "wrong_content"),
    "a page in place of a picture": ("LoadImage", "/page.png", "wrong_content"),
    "a file that needs a login": ("LoadImage", "/secret.png", "access_denied"),
    "a server that fails": ("Lora", "/broken.safetensors", "transfer_failed"),
    "a model that is not listed": ("Lora", "/model.onnx", "invalid_input"),
    "a repository that is not there": ("Diffusers", "/o/missing", "object_not_found"),
}


@pytest.mark.parametrize(("class_type", "path", "reason"), FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("is_async", [False, True])
async def test_what_cannot_be_had_is_a_400_and_nothing_runs(
    origin: Origin, serve: Serve, class_type: str, path: str, reason: str, is_async: bool
) -> None:
    origin.put("/page.safetensors", PAGE)
    origin.put("/page.png", PAGE)
    origin.put("/secret.png", PNG, authorization="x")
    origin.put("/broken.safetensors", MODEL, failures=[(500, {})] * 9)
    origin.put("/model.onnx", b"weights" * 9)
    site = await serve(loading_engine())
    later = {"webhook_v2": origin.url("/hook")} if is_async else {}
    status, reply = await posted(site, loading(class_type, origin.url(path)), **later)
    assert (status, reply["code"]) == (400, "invalid_input")
    assert reply["location"] == f"prompt.1.inputs.{INPUTS[class_type]}"
    assert reply["details"]["reason"] == reason
    assert reply["error"].startswith(f"Node 1, {INPUTS[class_type]}: ")
    assert (site.engine.ran, site.engine.prompts, site.engine.links) == ([], [], {})
    await eventually(lambda: is_clean(site))
    left = kept(site.services.settings.cache_dir)
    assert [name for name in left if "onnx" not in name] == []
    assert all(seen.path != "/hook" for seen in origin.seen)


async def test_a_private_address_is_a_400_where_it_is_not_trusted(
    origin: Origin, serve: Serve
) -> None:
    site = await serve(loading_engine(), http_trusted_origins=None)
    status, reply = await posted(site, loading("LoadImage", origin.put("/a.png", PNG)))
    assert (status, reply["details"]["reason"]) == (400, "host_refused")
    assert reply["location"] == "prompt.1.inputs.image"
    assert origin.seen == []


async def test_a_class_that_is_not_there_is_a_400_before_anything_is_fetched(
    origin: Origin, serve: Serve
) -> None:
    site = await serve(loading_engine())
    graph = loading("LoadImage", origin.put("/a.png", PNG))
    graph["7"] = {"class_type": "Unheard", "inputs": {}}
    status, reply = await posted(site, graph)
    assert (status, reply["code"]) == (400, "invalid_prompt")
    assert list(reply["details"]["node_errors"]) == ["7"]
    assert (origin.seen, site.engine.ran) == ([], [])


async def test_a_failure_closes_the_connections_of_its_request_alone(
    origin: Origin, serve: Serve
) -> None:
    site = await serve(loading_engine())
    async with holding() as shared, holding(MODEL * 2) as own:
        other = asyncio.ensure_future(posted(site, loading("Lora", shared.url)))
        await shared.is_asked()
        gate = threading.Event()
        origin.put("/a.png", PNG, failures=[(404, {})], on_get=lambda: gate.wait(10))
        sent = [("Lora", shared.url), ("Lora", own.url), ("LoadImage", origin.url("/a.png"))]
        failing = asyncio.ensure_future(posted(site, loading_all(*sent)))
        await own.is_asked()
        gate.set()
        status, reply = await failing
        assert (status, reply["location"]) == (400, "prompt.3.inputs.image")
        await own.is_left()
        shared.release()
        assert (await other)[0] == 200
        assert (shared.asked, shared.left) == (1, 0)


async def test_an_interrupted_job_ends_its_fetches(serve: Serve) -> None:
    site = await serve(loading_engine())
    async with holding() as slow:
        waiting = asyncio.ensure_future(posted(site, loading("Lora", slow.url), id="mine"))
        await slow.is_asked()
        async with site.client.get("/prompt/mine") as response:
            assert (await response.json())["state"] == "preparing"
        async with site.client.post("/interrupt", json={"id": "mine"}) as response:
            assert response.status == 200
        status, reply = await waiting
        assert (status, reply["code"]) == (409, "interrupted")
        await slow.is_left()
    await eventually(lambda: is_clean(site))


async def test_a_client_that_hangs_up_ends_the_fetches_of_its_job(serve: Serve) -> None:
    site = await serve(loading_engine())
    async with holding() as slow:
        waiting = asyncio.ensure_future(posted(site, loading("Lora", slow.url)))
        await slow.is_asked()
        waiting.cancel()
        await slow.is_left()
    await eventually(lambda: is_clean(site))
    assert site.engine.ran == []


async def test_a_job_over_its_time_ends_its_fetches(serve: Serve) -> None:
    site = await serve(loading_engine())
    async with holding() as slow:
        # A busy machine may need longer than the shortest of these to begin with the fetch.
        for timeout_s in (0.5, 2, 8):
            status, reply = await posted(site, loading("Lora", slow.url), timeout_s=timeout_s)
            assert (status, reply["code"]) == (504, "timeout")
            if slow.asked:
                break
        await slow.is_left()


async def test_the_events_of_a_job_tell_how_its_fetches_go(origin: Origin, serve: Serve) -> None:
    site = await serve(loading_engine())
    url = origin.put(f"/a.safetensors?sig={SECRET}", MODEL)
    async with site.prompt("text/event-stream", prompt=loading("Lora", url)) as response:
        text = await response.text()
    events = [dict(line.split(": ", 1) for line in e.splitlines()) for e in text.split("\n\n") if e]
    preparing = [json.loads(e["data"]) for e in events if e["event"] == "preparing"]
    assert preparing[-1] == {
        "location": "prompt.1.inputs.name",
        "url": f"{origin.url('/a.safetensors')}?…",
        "bytes": len(MODEL),
        "total": len(MODEL),
    }
    names = [e["event"] for e in events]
    assert names.index("preparing") < names.index("started")
    assert names[-1] == "succeeded"
    assert SECRET not in text


async def test_the_202_of_an_accepted_job_shows_what_was_fetched(
    origin: Origin, serve: Serve
) -> None:
    site = await serve(loading_engine())
    sent = loading("LoadImage", origin.put(f"/a.png?sig={SECRET}", PNG))
    status, reply = await posted(site, sent, id="mine", webhook_v2=origin.put("/hook", b""))
    assert status == 202
    assert reply["prompt"]["1"]["inputs"]["image"].endswith(".png")
    assert SECRET not in json.dumps(reply)
    await eventually(lambda: site.engine.ran == ["mine"] and is_clean(site))


AUTHS = {
    "bearer": {"type": "bearer", "token": SECRET},
    "basic": {"type": "basic", "username": "me", "password": SECRET},
    "header": {"type": "header", "header_name": "X-Key", "header_value": SECRET},
    "query": {"type": "query", "query_param": "sig", "query_value": SECRET},
}


async def said_of(site: Site, caller_id: str) -> str:
    """Return all that can be read of a job afterwards."""
    said = ""
    for path in (f"/prompt/{caller_id}", f"/prompt/{caller_id}/events", "/download"):
        async with site.client.get(path) as response:
            said += await response.text()
    return said


@pytest.mark.parametrize("kind", AUTHS)
@pytest.mark.parametrize("path", ["/a.png", "/missing.png", "/page.png"])
async def test_credentials_are_used_and_told_to_nobody(
    origin: Origin, serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    kind: str, path: str,
) -> None:  # fmt: skip
    caplog.set_level("DEBUG")
    origin.put("/a.png", PNG)
    origin.put("/page.png", PAGE)
    site = await serve(loading_engine())
    credentials = [{"url_pattern": "**", "auth": AUTHS[kind]}]
    for later in ({}, {"webhook_v2": origin.url("/hook")}):
        fields: dict[str, Any] = {"id": "mine", "credentials": credentials, **later}
        async with site.prompt(prompt=loading("LoadImage", origin.url(path)), **fields) as response:
            reply = await response.text()
        assert response.status in ((200, 202) if path == "/a.png" else (400,))
        await eventually(lambda: is_clean(site))
        assert SECRET not in reply
    seen = [str((s.path, s.headers)) for s in origin.seen if s.path.startswith(path)]
    told = SECRET if kind != "basic" else bare(f"me:{SECRET}".encode())
    assert seen
    assert all(told in each for each in seen)
    assert SECRET not in await said_of(site, "mine")
    assert SECRET not in caplog.text
    assert SECRET.encode() not in contents(tmp_path)


async def test_keys_for_s3_are_told_to_nobody(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    calls: list[Call] = []
    site = await serve(loading_engine())
    keys = {"access_key_id": "KEY", "secret_access_key": SECRET, "session_token": f"t-{SECRET}"}
    with answering(lambda call: Answer(body=PNG), calls) as endpoint:
        auth = {"type": "s3", "region": "eu-north-1", "endpoint": endpoint, **keys}
        credentials = [{"url_pattern": "s3://bucket/*", "auth": auth}]
        graph = loading("LoadImage", "s3://bucket/a.png")
        status, reply = await posted(site, graph, id="mine", credentials=credentials)
    assert status == 200
    assert calls
    assert SECRET not in json.dumps(reply) + await said_of(site, "mine") + caplog.text
    assert SECRET.encode() not in contents(tmp_path)


@pytest.mark.parametrize("path", ["/a.png", "/missing.png", "/page.png", "/unlisted.onnx"])
@pytest.mark.parametrize("class_type", ["LoadImage", "Lora", "Diffusers"])
async def test_what_is_secret_in_a_url_is_told_to_nobody(
    origin: Origin, serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    class_type: str, path: str,
) -> None:  # fmt: skip
    caplog.set_level("DEBUG")
    origin.put("/a.png", PNG)
    origin.put("/page.png", PAGE)
    origin.put("/unlisted.onnx", b"weights" * 9)
    site = await serve(loading_engine())
    url = origin.url(f"{path}?X-Amz-Signature={SECRET}#{SECRET}", f"me:{SECRET}")
    later = {"webhook_v2": origin.url("/hook")}
    for fields in ({}, later):
        async with site.prompt(prompt=loading(class_type, url), id="mine", **fields) as response:
            reply = await response.text()
        assert SECRET not in reply
        await eventually(lambda: is_clean(site))
    assert any(
        SECRET in str(seen) or bare(f"me:{SECRET}".encode()) in str(seen) for seen in origin.seen
    )
    assert SECRET not in await said_of(site, "mine")
    assert SECRET not in caplog.text
    assert SECRET.encode() not in contents(tmp_path)
