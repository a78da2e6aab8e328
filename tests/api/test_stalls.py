"""Clients that stop in the middle, of what they send and of what they are sent."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from comfyui_stateless import stalls
from comfyui_stateless.board import Board
from tests.api.conftest import Serve, Site
from tests.fakes import FakeEngine, Play, eventually, graph

WAIT_S = 10.0
LARGE_BYTES = 64 * 1024 * 1024


@asynccontextmanager
async def connection(site: Site, sent: bytes) -> AsyncIterator[socket.socket]:
    """Send something on a connection that takes next to nothing."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, (site.client.host, site.client.port))
        await loop.sock_sendall(client, sent)
        yield client


async def all_of(client: socket.socket) -> bytes:
    """Return what comes until the connection ends."""
    loop, received = asyncio.get_running_loop(), bytearray()
    while data := await asyncio.wait_for(loop.sock_recv(client, 65536), WAIT_S):
        received += data
    return bytes(received)


@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x"])
async def test_a_body_that_comes_no_further_is_given_up(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, framing: str, kind: str
) -> None:
    monkeypatch.setattr(stalls, "SILENT_S", 0.05)
    site = await serve()
    head = f"POST /prompt HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\n{framing}\r\n\r\n"
    async with connection(site, head.encode()) as client:
        assert (await all_of(client)).startswith(b"HTTP/1.1 400 ")
    assert site.engine.prompts == []


async def test_a_body_that_comes_slowly_is_waited_for(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stalls, "SILENT_S", 1.0)
    site = await serve()
    body = b'{"id": "a"}'

    async def pieces() -> AsyncIterator[bytes]:
        for byte in body:
            yield bytes([byte])
            await asyncio.sleep(0.15)

    async with site.client.post("/interrupt", data=pieces()) as response:
        assert response.status == 404, await response.text()


async def let_go(site: Site, request: bytes) -> None:
    """Send a request, read nothing of its answer, and wait until the server ends it."""
    runner = site.client.server.runner
    assert runner is not None
    server = runner.server
    assert server is not None
    before = len(server.connections)
    async with connection(site, request):
        await eventually(lambda: len(server.connections) > before)
        await eventually(lambda: len(server.connections) == before)


def posting(accept: str) -> bytes:
    body = json.dumps({"prompt": graph()}).encode()
    head = f"POST /prompt HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize("accept", ["application/json", "application/zip", "text/event-stream"])
async def test_an_answer_that_nobody_reads_is_given_up_with_its_files(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, accept: str
) -> None:
    monkeypatch.setattr(stalls, "UNREAD_S", 0.1)

    async def large(play: Play) -> None:
        play.file("large.bin", LARGE_BYTES)

    site = await serve(FakeEngine(large))
    await let_go(site, posting(accept))
    await eventually(lambda: not any(folder.exists() for folder in site.engine.workspaces))


async def test_a_stream_of_all_jobs_that_nobody_reads_is_ended(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stalls, "UNREAD_S", 0.1)
    monkeypatch.setattr(Board, "follow", lambda board, idle_s: endless())
    await let_go(await serve(), b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")


async def endless() -> AsyncGenerator[bytes, None]:
    while True:
        yield b"x" * 65536


@asynccontextmanager
async def limited(seconds: float) -> AsyncIterator[int]:
    """Run a server that is made as ComfyUI makes its own; give its port."""

    async def echo(request: web.Request) -> web.StreamResponse:
        if request.path != "/ws":
            return web.Response(text="there")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(str(message.data))
        return socket

    app = web.Application(middlewares=[stalls.first_requests_within(seconds)])
    app.router.add_get("/{path:.*}", echo)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n"])
async def test_a_connection_that_sends_no_request_is_ended_on_a_server_that_is_not_ours(
    sent: bytes,
) -> None:
    async with (
        limited(0.3) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
        http.ws_connect("/ws") as live,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        kept = await asyncio.open_connection("127.0.0.1", port)
        kept[1].write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HT")
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), WAIT_S) == b""
        kept[1].write(b"TP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await asyncio.wait_for(kept[0].read(), WAIT_S)).count(b"there") == 2
        await live.send_str("alive")
        assert await live.receive_str(timeout=WAIT_S) == "alive"
        for each in (writer, kept[1]):
            each.close()
