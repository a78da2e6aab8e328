from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct

import aiohttp
import pytest
from aiohttp import web

from comfyui_stateless import stalls
from comfyui_stateless.launcher.life import Phase
from tests.fakes import eventually
from tests.gateway.conftest import Serve, Site

PIECE = b"x" * 1000


async def die(request: web.BaseRequest) -> web.StreamResponse:
    """Be gone before the answer begins, as a process that is killed."""
    await request.read()
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def breaking_off(*, length: int | None, version: str = "1.1") -> object:
    """Return a handler that sends a piece of an answer and is gone."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = length
        await response.prepare(request)
        await response.write(PIECE)
        assert request.transport is not None
        request.transport.close()
        return response

    return handler


async def wait_for_ever(request: web.BaseRequest) -> web.StreamResponse:
    await request.read()
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_death_before_the_answer_is_a_502(serve: Serve, method: str) -> None:
    site = await serve(die)
    assert await site.error(method, "/prompt", data=b"{}") == (502, "bad_gateway")


async def test_a_request_is_not_sent_again_by_itself(serve: Serve) -> None:
    """Not on a fresh connection, nor on one that was used before."""
    site = await serve()
    async with site.http.post("/prompt", data=b"{}"):
        pass
    site.comfy.handler = die
    assert await site.error("POST", "/prompt", data=b"{}") == (502, "bad_gateway")
    assert await site.error("POST", "/prompt", data=b"{}") == (502, "bad_gateway")
    assert len(site.comfy.seen) == 3


async def test_a_death_while_the_client_still_sends_is_a_502(serve: Serve) -> None:
    async def die_early(request: web.BaseRequest) -> web.StreamResponse:
        await request.content.readany()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    site = await serve(die_early)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.gateway.port)
    writer.write(b"POST /prompt HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n" + PIECE)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 502 ")
    writer.close()


@pytest.mark.parametrize("length", [100_000, 5000], ids=["streamed", "small"])
async def test_an_answer_with_a_length_that_breaks_off_is_no_success(
    serve: Serve, length: int
) -> None:
    site = await serve(breaking_off(length=length))
    async with site.http.get("/prompt/a") as answer:
        if answer.status == 200:
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
        else:
            assert (await answer.json())["code"] == "bad_gateway"


async def test_a_chunked_answer_that_breaks_off_has_no_end(serve: Serve) -> None:
    site = await serve(breaking_off(length=None))
    head = b"GET /prompt/a HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = await site.raw(head)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert PIECE in answer
    assert not answer.endswith(b"0\r\n\r\n")


async def test_an_answer_to_an_old_client_that_breaks_off_is_reset(serve: Serve) -> None:
    site = await serve(breaking_off(length=None))
    with pytest.raises(ConnectionResetError):
        await site.raw(b"GET /prompt/a HTTP/1.0\r\n\r\n")


async def test_nonsense_in_place_of_an_answer_is_a_502(serve: Serve) -> None:
    async def nonsense(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        request.transport.close()
        return web.Response()

    site = await serve(nonsense)
    assert await site.error("GET", "/prompt/a") == (502, "bad_gateway")


@pytest.mark.parametrize(
    "header", [b"X: a\rb", b"X: a\x00b", b"X : b", b"Content-Length: 1, 2", b"Content-Length: -1"]
)
async def test_a_header_that_is_none_is_a_502(serve: Serve, header: bytes) -> None:
    async def odd(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 200 OK\r\n" + header + b"\r\n\r\n")
        request.transport.close()
        return web.Response()

    site = await serve(odd)
    answer = await site.raw(b"GET /prompt/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert header not in answer


@pytest.mark.parametrize("phase", [p for p in Phase if p is not Phase.UP])
async def test_while_comfyui_is_not_up_it_is_a_503_with_the_reason(
    serve: Serve, phase: Phase
) -> None:
    site = await serve(expose_comfyui=True)
    site.life.enter(phase, "It is being mended.")
    for path in ("/prompt", "/queue"):
        status, headers, body = await site.ask("POST", path, data=b"{}")
        assert (status, body["code"], body["error"]) == (503, "unavailable", "It is being mended.")
        assert int(headers["Retry-After"]) > 0
    assert site.comfy.seen == []


async def test_jobs_can_be_asked_for_while_it_drains(serve: Serve) -> None:
    site = await serve(expose_comfyui=True)
    site.life.enter(Phase.DRAINING)
    for method, path, status in (
        ("GET", "/prompt/a", 200),
        ("HEAD", "/prompt/a", 200),
        ("GET", "/queue", 503),
    ):
        async with site.http.request(method, path) as answer:
            assert answer.status == status
    await site.comfy.stop()
    status, _, body = await site.ask("GET", "/prompt/a")
    assert (status, body["error"]) == (503, "The server is shutting down.")


async def test_a_comfyui_that_takes_no_connections_is_a_503(serve: Serve) -> None:
    site = await serve()
    await site.comfy.stop()
    for body in (b"{}", b"x" * 100_000):
        status, headers, answer = await site.ask("POST", "/prompt", data=body)
        assert (status, answer["code"]) == (503, "unavailable")
        assert "nothing of the request" in answer["error"]
        assert headers["Retry-After"] == "5"


async def test_it_goes_on_with_a_comfyui_that_was_started_again(serve: Serve) -> None:
    """Connections of the ComfyUI before it are not used: no request fails for them."""
    site = await serve()
    for _ in range(20):
        async with site.http.post("/prompt", data=b"{}") as answer:
            assert answer.status == 200
        port = int(site.comfy.origin.rpartition(":")[2])
        await site.comfy.stop()
        await site.comfy.start(port=port)


async def test_a_connection_that_comfyui_ended_is_not_used(serve: Serve) -> None:
    site = await serve()
    for _ in range(20):
        async with site.http.post("/prompt", data=b"{}") as answer:
            assert answer.status == 200
        (connection,) = site.comfy.runner.server.connections  # type: ignore[union-attr]
        connection.force_close()
        await eventually(lambda: not site.comfy.runner.server.connections)  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [10, 300_000])
async def test_a_client_that_hangs_up_is_hung_up_on_behind(serve: Serve, size: int) -> None:
    site = await serve(wait_for_ever)
    asked = asyncio.ensure_future(site.http.post("/prompt", data=b"x" * size))
    await eventually(lambda: site.comfy.connections == 1)
    asked.cancel()
    await eventually(lambda: site.comfy.connections == 0)


async def test_a_client_that_hangs_up_in_an_answer_is_hung_up_on_behind(serve: Serve) -> None:
    async def events(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await asyncio.Event().wait()
        return response

    site = await serve(events)
    async with site.http.get("/prompt/a/events") as answer:
        await answer.content.readany()
        answer.close()
    await eventually(lambda: site.comfy.connections == 0)


async def test_a_client_that_hangs_up_in_its_request_is_hung_up_on_behind(serve: Serve) -> None:
    site = await serve()
    _, writer = await asyncio.open_connection("127.0.0.1", site.gateway.port)
    writer.write(b"POST /prompt HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n" + PIECE)
    await eventually(lambda: site.comfy.connections == 1)
    writer.transport.abort()
    await eventually(lambda: site.comfy.connections == 0)


@pytest.mark.parametrize(
    "body", [b"5\r\nabcdeXX", b"zz\r\n", b"5\r\nabc\r\n0\r\n\r\n", b"-1\r\n\r\n"]
)
async def test_a_body_that_is_framed_wrongly_is_a_400(serve: Serve, body: bytes) -> None:
    site = await serve()
    answer = await site.raw(
        b"POST /prompt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + body
    )
    assert answer.partition(b" ")[2].startswith(b"400 ")
    assert b'"code":"invalid_request"' in answer


async def test_an_answer_before_the_body_was_read_reaches_the_client(serve: Serve) -> None:
    async def refuse(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"error": "No.", "code": "unauthorized"}, status=401)

    site = await serve(refuse)

    async def endless() -> object:
        for _ in range(400):
            yield PIECE * 100

    async with site.http.post("/prompt", data=endless()) as answer:
        assert answer.status == 401
        assert (await answer.json())["code"] == "unauthorized"


async def written_to(site: Site, request: bytes) -> None:
    """Send a request over a connection whose buffers are small, and read nothing."""
    raw = socket.create_connection(("127.0.0.1", site.gateway.port))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.sendall(request)
    try:
        await stalled(site)
    finally:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()


async def stalled(site: Site) -> None:
    """Wait until no more moves for a while."""
    quiet, last = 0, -1
    while quiet < 20:
        await asyncio.sleep(0.02)
        quiet, last = (quiet + 1, last) if site.moved == last else (0, site.moved)


async def test_an_answer_waits_for_a_client_that_does_not_read(serve: Serve) -> None:
    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(PIECE * 50)
            site.moved += 50_000

    site = await serve(endless)
    await written_to(site, b"GET /prompt/a HTTP/1.1\r\nHost: a\r\n\r\n")
    # The kernel's buffers of two connections hold up to 4 MiB each, at most.
    assert site.moved < 16_000_000
    await eventually(lambda: site.comfy.connections == 0)


async def test_a_request_waits_for_a_comfyui_that_does_not_read(serve: Serve) -> None:
    let_go = asyncio.Event()

    async def read_late(request: web.BaseRequest) -> web.StreamResponse:
        await let_go.wait()
        sizes = [len(chunk) async for chunk in request.content.iter_any()]
        return web.Response(body=b"%d" % sum(sizes))

    site = await serve(read_late, max_body_bytes=10**9)

    async def body() -> object:
        for _ in range(1000):
            yield PIECE * 100
            site.moved += 100_000

    asked = asyncio.ensure_future(site.http.post("/prompt", data=body()))
    await stalled(site)
    assert site.moved < 16_000_000
    let_go.set()
    async with await asked as answer:
        assert await answer.read() == b"100000000"


async def test_no_secret_is_logged(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    site = await serve(die)
    headers = {"Authorization": "Bearer hush", "Cookie": "hush"}
    for _ in range(2):
        await site.error("POST", "/prompt?token=hush", data=b"hush", headers=headers)
    await site.comfy.stop()
    await site.error("POST", "/prompt?token=hush", data=b"hush", headers=headers)
    await site.raw(b"POST /prompt?token=hush HTTP/9\r\nhush\r\n\r\n")
    assert "A request got no answer" in caplog.text
    assert "hush" not in caplog.text


async def test_a_client_that_never_reads_its_answer_is_ended(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(PIECE * 50)

    monkeypatch.setattr(stalls, "UNREAD_S", 0.1)
    site = await serve(endless)
    _, writer = await asyncio.open_connection("127.0.0.1", site.gateway.port, limit=1)
    writer.write(b"GET /prompt/a HTTP/1.1\r\nHost: a\r\n\r\n")
    await eventually(lambda: site.comfy.connections == 1)
    await eventually(lambda: site.comfy.connections == 0)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
