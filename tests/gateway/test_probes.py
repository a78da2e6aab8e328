from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from comfyui_stateless import __version__
from comfyui_stateless.launcher.life import Phase
from tests.fakes import eventually
from tests.gateway.conftest import Serve

READY = {"version": __version__, "status": "ready"}


async def ready(request: web.BaseRequest) -> web.Response:
    return web.json_response({"version": "other", "status": "ready"})


async def full(request: web.BaseRequest) -> web.Response:
    body = {"version": "other", "status": "not ready", "reason": "The queue is full."}
    return web.json_response(body, status=503)


async def test_both_are_well_when_comfyui_is(serve: Serve) -> None:
    site = await serve(ready)
    assert (await site.ask("GET", "/health"))[::2] == (
        200,
        {"version": __version__, "status": "healthy"},
    )
    assert (await site.ask("GET", "/ready"))[::2] == (200, READY)
    assert site.comfy.last.target == "/api/stateless/ready"


async def test_it_is_not_healthy_before_it_was_warm_once(serve: Serve) -> None:
    site = await serve(ready)
    site.life.warm = False
    status, _, body = await site.ask("GET", "/health")
    assert (status, body["status"]) == (500, "not healthy")
    assert body["reason"]


async def test_it_is_healthy_as_soon_as_somebody_has_found_it_ready(serve: Serve) -> None:
    site = await serve(ready)
    site.life.warm = False
    assert (await site.ask("GET", "/ready"))[0] == 200
    assert (await site.ask("GET", "/health"))[0] == 200


async def test_it_is_not_healthy_because_somebody_has_asked(serve: Serve) -> None:
    site = await serve(full)
    site.life.warm = False
    assert (await site.ask("GET", "/ready"))[0] == 503
    assert (await site.ask("GET", "/health"))[0] == 500


@pytest.mark.parametrize("phase", [p for p in Phase if p is not Phase.UP])
async def test_it_stays_healthy_and_is_not_ready_while_comfyui_is_down(
    serve: Serve, phase: Phase
) -> None:
    site = await serve(ready)
    site.life.enter(phase, "Why.")
    status, _, body = await site.ask("GET", "/health")
    assert (status, body["status"], body["reason"]) == (200, "healthy", "Why.")
    status, _, body = await site.ask("GET", "/ready")
    assert (status, body["status"], body["reason"]) == (503, "not ready", "Why.")
    assert site.comfy.seen == []


async def test_it_is_not_ready_for_the_extension_s_reason(serve: Serve) -> None:
    site = await serve(full)
    assert (await site.ask("GET", "/ready"))[::2] == (
        503,
        {"version": __version__, "status": "not ready", "reason": "The queue is full."},
    )


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'{"reason": 7}', b"\xff"])
async def test_an_answer_of_another_kind_is_not_ready(serve: Serve, body: bytes) -> None:
    async def odd(request: web.BaseRequest) -> web.Response:
        return web.Response(body=body, status=404)

    site = await serve(odd)
    status, _, answer = await site.ask("GET", "/ready")
    assert status == 503
    assert answer["reason"]


async def test_a_hung_comfyui_is_not_ready_soon(serve: Serve) -> None:
    async def hang(request: web.BaseRequest) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    site = await serve(hang, probe_s=0.05)
    status, _, body = await site.ask("GET", "/ready")
    assert status == 503
    assert "0.05 seconds" in body["reason"]


async def test_a_comfyui_that_takes_no_connections_is_not_ready(serve: Serve) -> None:
    site = await serve(ready)
    await site.comfy.stop()
    assert (await site.ask("GET", "/ready"))[0] == 503


async def test_many_probes_at_once_are_one_question(serve: Serve) -> None:
    let_go = asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.Response:
        await let_go.wait()
        return await ready(request)

    site = await serve(slow)
    probes = [asyncio.ensure_future(site.ask("GET", "/ready")) for _ in range(50)]
    await eventually(lambda: bool(site.comfy.seen))
    probes[0].cancel()
    await eventually(lambda: site.gateway._running >= 49)
    let_go.set()
    answers = await asyncio.gather(*probes, return_exceptions=True)
    assert [answer[0] for answer in answers[1:] if not isinstance(answer, BaseException)] == [
        200
    ] * 49
    assert len(site.comfy.seen) == 1
    assert (await site.ask("GET", "/ready"))[0] == 200
    assert len(site.comfy.seen) == 2


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_they_take_head_and_need_no_key(serve: Serve, path: str) -> None:
    site = await serve(ready, keys=("secret",), expose_comfyui=True)
    async with site.http.head(path, headers={"Origin": "http://other.example"}) as answer:
        assert answer.status == 200
        assert int(answer.headers["Content-Length"]) > 0
        assert answer.headers["Cache-Control"] == "no-store"
        assert await answer.read() == b""


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_they_take_nothing_else(serve: Serve, path: str) -> None:
    site = await serve(ready)
    assert await site.error("POST", path) == (405, "method_not_allowed")
    async with site.http.put(path) as answer:
        assert answer.headers["Allow"] == "GET, HEAD"
