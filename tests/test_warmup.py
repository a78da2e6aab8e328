"""Getting ready: the graph of WARMUP_PROMPT_URL, and what health says where it will not do."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from comfyui_stateless import warmup
from comfyui_stateless.errors import ExecutionError, InvalidPrompt
from comfyui_stateless.journal import schema
from comfyui_stateless.journal.journal import Journal
from comfyui_stateless.readiness import Phase
from comfyui_stateless.warmup import get_ready
from tests.cache.origin import Origin
from tests.fakes import FakeEngine, Play, eventually, graph
from tests.fetching import MODEL, PAGE, SECRET, loading, loading_engine
from tests.storage.answering import answering
from tests.wiring import app_for, background_for, end, services_for

GRAPH = json.dumps(graph()).encode()


@pytest.fixture(autouse=True)
def _short_delays(plain_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warmup, "RETRY_DELAYS_S", (0.01, 0.01))


Start = Callable[..., Awaitable[tuple[int, dict[str, Any]]]]


@pytest.fixture
async def started(tmp_path: Path) -> AsyncIterator[Start]:
    """Start a server; give what its health is once it has warmed up or failed to."""
    async with AsyncExitStack() as stack:

        async def start(engine: FakeEngine, **settings: Any) -> tuple[int, dict[str, Any]]:
            settings = {"http_trusted_origins": None, **settings}
            services = services_for(engine, tmp_path, Phase.STARTING, **settings)
            stack.push_async_callback(end, services)
            background = background_for(services)
            stack.push_async_callback(background.close)
            app = app_for(services, background)
            client = await stack.enter_async_context(TestClient(TestServer(app)))
            await get_ready(services, background)
            async with client.get("/health") as response:
                return response.status, await response.json()

        yield start


async def test_the_graph_is_read_from_an_address_that_is_private_and_run(
    origin: Origin, started: Start
) -> None:
    engine = FakeEngine()
    status, said = await started(engine, warmup_prompt_url=origin.put("/warm.json", GRAPH))
    assert (status, said["status"]) == (200, "healthy")
    assert engine.ran == ["warm-up"]
    assert not any(folder.exists() for folder in engine.workspaces)


async def test_a_server_that_fails_twice_is_asked_again(origin: Origin, started: Start) -> None:
    url = origin.put("/warm.json", GRAPH, failures=[(503, {}), (500, {})])
    status, said = await started(FakeEngine(), warmup_prompt_url=url)
    assert (status, said["status"]) == (200, "healthy")


async def test_user_and_password_of_the_address_are_sent(origin: Origin, started: Start) -> None:
    origin.put("/warm.json", GRAPH, authorization="Basic bWU6aHVzaA==")
    url = origin.url("/warm.json", "me:hush")
    assert (await started(FakeEngine(), warmup_prompt_url=url))[0] == 200


async def test_a_redirect_is_followed(origin: Origin, started: Start) -> None:
    to = {"Location": origin.put("/warm.json", GRAPH)}
    with answering(302, to, b"") as (url, _):
        assert (await started(FakeEngine(), warmup_prompt_url=f"{url}/moved"))[0] == 200


async def test_a_file_outranks_the_address(origin: Origin, started: Start, tmp_path: Path) -> None:
    (tmp_path / "warm.json").write_bytes(GRAPH)
    engine = FakeEngine()
    status, _ = await started(
        engine, warmup_prompt_file=tmp_path / "warm.json",
        warmup_prompt_url=origin.url("/missing"),
    )  # fmt: skip
    assert (status, engine.ran, origin.seen) == (200, ["warm-up"], [])


async def test_without_a_graph_there_is_no_warm_up(started: Start) -> None:
    engine = FakeEngine()
    assert (await started(engine))[0] == 200
    assert engine.ran == []


UNUSABLE: dict[str, tuple[Any, str]] = {
    "not there": (None, "404"),
    "a server that fails": ({"failures": [(500, {})] * 3}, "500"),
    "a login that is wanted": ({"authorization": "x"}, "401"),
    "cut off": ({"content": GRAPH, "length": len(GRAPH) + 9, "ranges": False}, "WARMUP_PROMPT_URL"),
    "no JSON": ({"content": b"{"}, "not JSON"),
    "a page": ({"content": PAGE}, "not JSON"),
    "binary": ({"content": b"\xff\xfe\0"}, "UTF-8"),
    "nothing": ({"content": b""}, "not JSON"),
    "a list": ({"content": b"[]"}, "object"),
    "an empty graph": ({"content": b"{}"}, "at least 1"),
    "a graph of the UI's": ({"content": b'{"nodes": [], "links": []}'}, "UI format"),
    "a node that is none": ({"content": b'{"1": 7}'}, "must be an object"),
    "a node without a class": ({"content": b'{"1": {"inputs": {}}}'}, "class_type"),
    "too large": ({"content": GRAPH + b" " * 1_000_000}, "MAX_BODY_SIZE_MB"),
    "nested deep": ({"content": b'{"1":' * 200 + b"1" + b"}" * 200}, "nested"),
}


@pytest.mark.parametrize(("served", "says"), UNUSABLE.values(), ids=UNUSABLE)
async def test_a_graph_that_will_not_do_keeps_the_server_unhealthy_and_says_why(
    origin: Origin, started: Start, caplog: pytest.LogCaptureFixture, served: Any, says: str
) -> None:
    caplog.set_level("DEBUG")
    if served is not None:
        origin.put("/warm.json", **{"content": GRAPH, **served})
    url = origin.url(f"/warm.json?sig={SECRET}", f"me:{SECRET}")
    engine = FakeEngine()
    status, said = await started(engine, warmup_prompt_url=url, max_body_size_mb=0.5)
    assert (status, said["status"]) == (500, "not healthy")
    assert "WARMUP_PROMPT_URL" in said["reason"]
    assert says in said["reason"]
    assert SECRET not in str(said) + caplog.text
    assert engine.ran == []


@pytest.mark.parametrize("url", ["ftp://host/warm.json", "file:///etc/passwd", "warm.json"])
async def test_an_address_of_another_kind_is_told(started: Start, url: str) -> None:
    status, said = await started(FakeEngine(), warmup_prompt_url=url)
    assert status == 500
    assert "WARMUP_PROMPT_URL cannot be read" in said["reason"]


@pytest.mark.parametrize("when", ["validated", "run"])
async def test_a_graph_that_fails_keeps_the_server_unhealthy(
    origin: Origin, started: Start, when: str
) -> None:
    async def fail(play: Play) -> None:
        raise ExecutionError("EmptyImage (node 1) failed: No.")

    engine = FakeEngine(fail) if when == "run" else FakeEngine(invalid=InvalidPrompt("No."))
    status, said = await started(engine, warmup_prompt_url=origin.put("/warm.json", GRAPH))
    assert status == 500
    assert "No." in said["reason"]


async def test_the_models_of_the_graph_are_fetched(origin: Origin, started: Start) -> None:
    engine = loading_engine()
    warm = loading("Lora", origin.put("/style.safetensors", MODEL))
    url = origin.put("/warm.json", json.dumps(warm).encode())
    settings = {"warmup_prompt_url": url, "http_trusted_origins": origin.url("")}
    assert (await started(engine, **settings))[0] == 200
    assert len(engine.links) == 1


async def test_what_the_graph_names_is_bound_by_the_policy(origin: Origin, started: Start) -> None:
    warm = loading("Lora", origin.put("/style.safetensors", MODEL))
    url = origin.put("/warm.json", json.dumps(warm).encode())
    status, said = await started(loading_engine(), warmup_prompt_url=url)
    assert status == 500
    assert "HTTP_TRUSTED_ORIGINS" in said["reason"] or "127.0.0.1" in said["reason"]
    assert [seen.path for seen in origin.seen] == ["/warm.json"]


async def test_a_journal_that_is_locked_is_waited_for_and_the_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "WAIT_S", 0.01)
    monkeypatch.setattr(warmup, "JOURNAL_DELAYS_S", (0.01,))
    services = services_for(FakeEngine(), tmp_path, Phase.STARTING)
    await (await Journal.open(services.settings.state_dir)).close()
    background = background_for(services)
    app = app_for(services, background)
    async with TestClient(TestServer(app)) as client:
        path = services.settings.state_dir / "journal.sqlite3"
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            starting = asyncio.ensure_future(get_ready(services, background))
            await eventually(lambda: "locked" in (services.readiness.reason or ""))
            for route, status in (("/health", 500), ("/ready", 503), ("/status", 200)):
                answer = await client.get(route)
                assert answer.status == status
                assert "locked" in (await answer.json())["reason"]
            refused = await client.post("/prompt", json={"prompt": graph()})
            assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
            assert not starting.done()
        await starting
        assert (await client.get("/ready")).status == 200
    await background.close()
    await end(services)
