from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from yarl import URL

from tests.fakes import eventually
from tests.gateway.conftest import Handler, Serve
from tests.gateway.test_exposed import basic

Talk = Callable[[web.WebSocketResponse], Awaitable[None]]


def socket_of(talk: Talk, **options: object) -> Handler:
    """Return a handler that takes a WebSocket and hands it to ``talk``; pings are left to it."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=False, **options)  # type: ignore[arg-type]
        await socket.prepare(request)
        await talk(socket)
        return socket

    return handler


async def echo(socket: web.WebSocketResponse) -> None:
    async for message in socket:
        if message.type is WSMsgType.PING:
            await socket.pong(message.data)
        elif message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)


async def quiet(socket: web.WebSocketResponse) -> None:
    await socket.receive()


@pytest.mark.parametrize("data", ["", "text \u00fc", b"", b"\x00\x01", b"x" * 20_000_000])
async def test_messages_go_both_ways(serve: Serve, data: str | bytes) -> None:
    site = await serve(socket_of(echo, max_msg_size=0), expose_comfyui=True)
    target = URL("/ws?clientId=a%2Fb", encoded=True)
    async with site.http.ws_connect(target, max_msg_size=0) as socket:
        for _ in range(2):
            await (socket.send_str(data) if isinstance(data, str) else socket.send_bytes(data))
            message = await socket.receive(timeout=10)
            assert message.data == data
    assert site.comfy.last.target == "/ws?clientId=a%2Fb"


async def test_their_order_is_kept(serve: Serve) -> None:
    site = await serve(socket_of(echo), expose_comfyui=True)
    async with site.http.ws_connect("/ws") as socket:
        for number in range(500):
            await socket.send_str(str(number))
        received = [await socket.receive_str(timeout=10) for _ in range(500)]
    assert received == [str(number) for number in range(500)]


async def test_pings_go_through(serve: Serve) -> None:
    site = await serve(socket_of(echo), expose_comfyui=True)
    async with site.http.ws_connect("/ws", autoping=False) as socket:
        await socket.ping(b"are you there")
        message = await socket.receive(timeout=10)
        assert (message.type, message.data) == (WSMsgType.PONG, b"are you there")


async def test_pings_of_comfyui_go_through(serve: Serve) -> None:
    answered = asyncio.Event()

    async def ping(socket: web.WebSocketResponse) -> None:
        await socket.ping(b"here")
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.PONG, b"here")
        answered.set()
        await socket.receive()

    site = await serve(socket_of(ping), expose_comfyui=True)
    async with site.http.ws_connect("/ws") as socket:
        reading = asyncio.ensure_future(socket.receive())
        await asyncio.wait_for(answered.wait(), 10)
        reading.cancel()


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
async def test_how_comfyui_ends_is_passed_on(serve: Serve, code: int) -> None:
    async def end(socket: web.WebSocketResponse) -> None:
        await socket.close(code=code, message=b"because")

    site = await serve(socket_of(end), expose_comfyui=True)
    async with site.http.ws_connect("/ws", autoclose=False) as socket:
        message = await socket.receive(timeout=10)
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, code, "because")


async def test_how_a_client_ends_is_passed_on(serve: Serve) -> None:
    ends: list[tuple[int | None, str | None]] = []

    async def note(socket: web.WebSocketResponse) -> None:
        message = await socket.receive()
        ends.append((message.data, message.extra))

    site = await serve(socket_of(note, autoclose=False), expose_comfyui=True)
    async with site.http.ws_connect("/ws") as socket:
        await socket.close(code=4001, message=b"enough")
        assert socket.close_code == 4001
    await eventually(lambda: ends == [(4001, "enough")])


async def test_a_client_that_is_gone_is_gone_for_comfyui(serve: Serve) -> None:
    site = await serve(socket_of(quiet), expose_comfyui=True)
    async with site.http.ws_connect("/ws") as socket:
        await eventually(lambda: site.comfy.connections == 1)
        socket._response.connection.transport.abort()  # type: ignore[union-attr]
        await eventually(lambda: site.comfy.connections == 0)


async def test_a_comfyui_that_is_gone_is_gone_for_the_client(serve: Serve) -> None:
    site = await serve(socket_of(quiet), expose_comfyui=True)
    async with site.http.ws_connect("/ws") as socket:
        await eventually(lambda: site.comfy.connections == 1)
        await site.comfy.stop()
        message = await socket.receive(timeout=10)
        assert message.type in (WSMsgType.CLOSED, WSMsgType.ERROR)
        assert socket.close_code in (1006, 1000)


async def test_protocols_are_agreed_on_from_end_to_end(serve: Serve) -> None:
    site = await serve(socket_of(quiet, protocols=("b", "c")), expose_comfyui=True)
    async with site.http.ws_connect("/ws", protocols=("a", "b")) as socket:
        assert socket.protocol == "b"
    async with site.http.ws_connect("/ws") as socket:
        assert socket.protocol is None


async def test_a_slow_client_slows_comfyui_down(serve: Serve) -> None:
    piece = b"x" * 100_000

    async def endless(socket: web.WebSocketResponse) -> None:
        while not socket.closed:
            await socket.send_bytes(piece)
            site.moved += len(piece)

    site = await serve(socket_of(endless), expose_comfyui=True)
    async with site.http.ws_connect("/ws") as socket:
        still = 0
        for _ in range(200):
            before = site.moved
            await asyncio.sleep(0.02)
            still = still + 1 if site.moved == before else 0
            if still == 20:
                break
        assert still == 20
        assert site.moved < 20_000_000
        socket._response.connection.transport.abort()  # type: ignore[union-attr]
        await eventually(lambda: site.comfy.connections == 0)


async def test_comfyui_s_refusal_is_an_error_in_the_one_shape(serve: Serve) -> None:
    async def none(request: web.BaseRequest) -> web.Response:
        return web.Response(status=404)

    site = await serve(none, expose_comfyui=True)
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await site.http.ws_connect("/nothing")
    assert caught.value.status == 404


async def test_a_handshake_without_its_key_is_a_400(serve: Serve) -> None:
    site = await serve(socket_of(echo), expose_comfyui=True)
    headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert await site.error("GET", "/ws", headers=headers) == (400, "invalid_request")


async def test_it_needs_a_key_which_a_browser_shows_as_a_password(serve: Serve) -> None:
    site = await serve(socket_of(echo), expose_comfyui=True, keys=("secret",))
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await site.http.ws_connect("/ws")
    assert caught.value.status == 401
    for headers in (basic("secret"), {"X-API-Key": "secret"}):
        async with site.http.ws_connect("/ws", headers=headers) as socket:
            await socket.send_str("a")
            assert await socket.receive_str(timeout=10) == "a"


async def test_a_page_of_another_origin_gets_none(serve: Serve) -> None:
    site = await serve(socket_of(echo), expose_comfyui=True)
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await site.http.ws_connect("/ws", origin="https://evil.example")
    assert caught.value.status == 403


async def test_there_is_none_unless_comfyui_is_exposed(serve: Serve) -> None:
    site = await serve(socket_of(echo))
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await site.http.ws_connect("/ws")
    assert caught.value.status == 404


async def test_closing_the_gateway_does_not_wait_for_it(serve: Serve) -> None:
    site = await serve(socket_of(quiet), expose_comfyui=True)
    async with site.http.ws_connect("/ws") as socket:
        await eventually(lambda: site.comfy.connections == 1)
        await asyncio.wait_for(site.gateway.close(60), 30)
        assert (await socket.receive(timeout=10)).type in (
            WSMsgType.CLOSE,
            WSMsgType.CLOSED,
            WSMsgType.ERROR,
        )
    await eventually(lambda: site.comfy.connections == 0)
