"""The gateway in front of a real ComfyUI."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
from yarl import URL

from comfyui_stateless.launcher.gateway import Gateway, GatewayOptions
from comfyui_stateless.launcher.life import Life, Phase
from tests.comfyui.graphs import Graph, saved, waiting
from tests.comfyui.server import ComfyServer, Install

KEY = "the-key"


@pytest.fixture(scope="module")
def server(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A ComfyUI for this file alone, which its tests may end."""
    with ComfyServer(install, tmp_path_factory.mktemp("gateway")) as server:
        server.wait_until_ready()
        yield server


@pytest.fixture
async def http(server: ComfyServer) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the gateway in front of it, which shows the key of ComfyUI's own routes."""
    if server.process is None:
        server.start()
        server.wait_until_ready()
    life = Life(warm=True)
    life.enter(Phase.UP)
    options = {"host": "127.0.0.1", "port": 0, "upstream": server.url}
    gateway = Gateway(GatewayOptions(**options, expose_comfyui=True, keys=(KEY,)), life)  # type: ignore[arg-type]
    await gateway.start()
    async with aiohttp.ClientSession(
        f"http://127.0.0.1:{gateway.port}",
        headers={"X-API-Key": KEY},
        timeout=aiohttp.ClientTimeout(total=60),
    ) as session:
        yield session
    await gateway.close(0)


async def state(http: aiohttp.ClientSession, job: str) -> Any:
    async with http.get(f"/prompt/{job}") as answer:
        return (await answer.json()).get("state", answer.status)


async def until(http: aiohttp.ClientSession, job: str, *wanted: str) -> str:
    deadline = asyncio.get_running_loop().time() + 30
    while (found := await state(http, job)) not in wanted:
        assert asyncio.get_running_loop().time() < deadline, found
        await asyncio.sleep(0.05)
    return str(found)


def prompt(graph: Graph, **fields: Any) -> dict[str, Any]:
    return {"prompt": graph, **fields}


async def test_what_clients_of_the_original_call(http: aiohttp.ClientSession) -> None:
    for path in ("/health", "/ready", "/docs", "/docs/json", "/models"):
        async with http.get(path) as answer:
            assert answer.status == 200, path
            await answer.read()
    async with http.post("/prompt", json=prompt(saved(1), id="a/b")) as answer:
        assert answer.status == 200
        assert len((await answer.json())["images"]) == 1
    async with http.get("/prompt/a%2Fb") as answer:
        assert (await answer.json())["id"] == "a/b"
    async with http.post("/interrupt", json={"id": "nobody"}) as answer:
        assert answer.status == 404
        assert await answer.json() == {"id": "nobody", "interrupted": "failed"}
    async with http.post("/download", json={"url": "https://a.example/x"}) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]
    async with http.delete("/prompt") as answer:
        assert answer.status == 405
        assert (await answer.json())["error"] == "/prompt does not take DELETE, but POST."


async def test_the_documentation_leads_to_nothing_that_is_missing(
    http: aiohttp.ClientSession,
) -> None:
    async with http.get("/docs", allow_redirects=True) as answer:
        page = await answer.text()
        base = answer.url
    names = {part.partition('"')[0] for part in page.split('src="')[1:] + page.split('href="')[1:]}
    assert names
    for name in names:
        if not name.startswith("data:"):
            async with http.get(base.join(URL(name))) as answer:
                assert answer.status == 200, name


async def test_an_image_and_an_event_stream_come_through(http: aiohttp.ClientSession) -> None:
    async with http.post(
        "/prompt", json=prompt(saved(2)), headers={"Accept": "image/png"}
    ) as answer:
        assert (await answer.read()).startswith(b"\x89PNG")
    events = {"Accept": "text/event-stream"}
    async with http.post("/prompt", json=prompt(saved(3)), headers=events) as answer:
        names = [line async for line in answer.content if line.startswith(b"event:")]
    assert names[-1].strip() == b"event: succeeded"


async def test_an_event_arrives_while_its_job_runs_and_the_job_is_interrupted(
    http: aiohttp.ClientSession,
) -> None:
    events = {"Accept": "text/event-stream"}
    body = prompt(waiting(30, "interrupted"), id="stopped")
    async with http.post("/prompt", json=body, headers=events) as answer:
        async for line in answer.content:
            if line.strip() == b"event: started":
                break
        async with http.post("/interrupt", json={"id": "stopped"}) as stopped:
            assert await stopped.json() == {"id": "stopped", "interrupted": "success"}
        rest = await answer.content.read()
    assert b"event: failed" in rest
    assert b'"interrupted"' in rest


async def test_a_client_that_hangs_up_cancels_its_job(http: aiohttp.ClientSession) -> None:
    body = prompt(waiting(30, "hung up"), id="gone")
    asked = asyncio.ensure_future(http.post("/prompt", json=body))
    await until(http, "gone", "running")
    asked.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asked
    assert await until(http, "gone", "interrupted", "failed", "succeeded") == "interrupted"


async def test_comfyui_s_own_interface_works_behind_the_key(http: aiohttp.ClientSession) -> None:
    async with http.get("/") as answer:
        assert answer.status == 200
        assert b"<html" in (await answer.read()).lower()
    async with http.get("/", headers={"X-API-Key": "wrong"}) as answer:
        assert answer.status == 401
    async with http.ws_connect("/ws?clientId=through") as socket:
        first = json.loads((await socket.receive(timeout=20)).data)
        assert first["type"] == "status"
        queued = {"prompt": saved(4), "client_id": "through"}
        async with http.post("/api/prompt", json=queued) as answer:
            assert (await answer.json())["prompt_id"]
        while (event := json.loads(await socket.receive_str(timeout=20)))["type"] != "executed":
            pass
        (image,) = event["data"]["output"]["images"]
    async with http.get("/view", params=image) as answer:
        assert (await answer.read()).startswith(b"\x89PNG")


@pytest.mark.parametrize("is_streamed", [False, True], ids=["before", "within"])
async def test_a_comfyui_that_is_killed_is_never_a_success(
    server: ComfyServer, http: aiohttp.ClientSession, is_streamed: bool
) -> None:
    headers = {"Accept": "text/event-stream"} if is_streamed else {}
    body = prompt(waiting(30, f"killed {is_streamed}"), id="killed")
    asked = asyncio.ensure_future(http.post("/prompt", json=body, headers=headers))
    await until(http, "killed", "running")
    server.signal(signal.SIGKILL)
    async with await asked as answer:
        if is_streamed:
            assert answer.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
        else:
            assert answer.status == 502
            assert (await answer.json())["code"] == "bad_gateway"
    server.stop()
    async with http.post("/prompt", json=body) as refused:
        assert refused.status == 503
        assert refused.headers["Retry-After"]
    async with http.get("/ready") as ready:
        assert ready.status == 503
    async with http.get("/health") as health:
        assert health.status == 200
