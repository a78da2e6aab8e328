from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from comfyui_stateless.errors import ConfigError
from comfyui_stateless.launcher.gateway import Gateway, GatewayOptions
from comfyui_stateless.launcher.life import Life
from tests.fakes import eventually
from tests.gateway.conftest import Serve

Listen = Callable[..., Awaitable[Gateway]]


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    begun: list[Gateway] = []

    async def listen(host: str, port: int = 0) -> Gateway:
        begun.append(Gateway(GatewayOptions(host=host, port=port), Life(warm=True)))
        await begun[-1].start()
        return begun[-1]

    yield listen
    for gateway in begun:
        await gateway.close(0)


async def answers(host: str, port: int) -> bool:
    try:
        async with aiohttp.ClientSession() as http, http.get(f"http://{host}:{port}/health") as got:
            return got.status == 200
    except aiohttp.ClientConnectorError:
        return False


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@needs_ipv6
async def test_every_address_is_both_families(listen: Listen) -> None:
    port = (await listen("::")).port
    assert await answers("127.0.0.1", port)
    assert await answers("[::1]", port)


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
async def test_without_ipv6_every_address_is_every_one_there_is(
    listen: Listen, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    original = socket.create_server

    def create_server(*args: object, **options: object) -> socket.socket:
        if options.get("family") == socket.AF_INET6:
            raise OSError(number, "no IPv6")
        return original(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "create_server", create_server)
    assert await answers("127.0.0.1", (await listen("::")).port)


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
async def test_an_address_is_that_address(listen: Listen, host: str) -> None:
    port = (await listen(host)).port
    assert await answers("127.0.0.1", port)
    assert not await answers("[::1]", port)


async def test_a_name_is_all_of_its_addresses(listen: Listen) -> None:
    assert await answers("localhost", (await listen("localhost")).port)


@pytest.mark.parametrize("host", ["::", "127.0.0.1", "localhost"])
async def test_a_port_that_is_taken_is_named(listen: Listen, host: str) -> None:
    port = (await listen(host)).port
    with pytest.raises(ConfigError) as caught:
        await listen(host, port)
    assert f"{host}, port {port}, cannot be listened on: Address already in use." in str(
        caught.value
    )


@pytest.mark.parametrize("host", ["no-such-host.invalid", "203.0.113.1", "a b"])
async def test_a_host_that_is_not_ours_is_named(listen: Listen, host: str) -> None:
    with pytest.raises(ConfigError, match=f"HOST and PORT: {host}, port 0, cannot"):
        await listen(host)


async def test_closing_lets_requests_end_and_takes_no_more(serve: Serve) -> None:
    let_go = asyncio.Event()

    async def wait(request: web.BaseRequest) -> web.Response:
        await let_go.wait()
        return web.Response(body=await request.read())

    site = await serve(wait)
    asked = asyncio.ensure_future(site.http.post("/prompt", data=b"x" * 300_000))
    await eventually(lambda: site.comfy.connections == 1)
    closing = asyncio.ensure_future(site.gateway.close(30))
    await asyncio.sleep(0)
    assert not await answers("127.0.0.1", site.gateway.port)
    let_go.set()
    async with await asked as answer:
        assert await answer.read() == b"x" * 300_000
    await closing


async def test_closing_cuts_off_what_takes_longer(serve: Serve) -> None:
    async def wait(request: web.BaseRequest) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    site = await serve(wait)
    asked = asyncio.ensure_future(site.http.get("/prompt/a"))
    await eventually(lambda: site.comfy.connections == 1)
    began = time.monotonic()
    await site.gateway.close(0.05)
    assert time.monotonic() - began < 5
    with pytest.raises(aiohttp.ClientError):
        await asked
    await eventually(lambda: site.comfy.connections == 0)


async def test_closing_twice_or_before_the_start_is_no_error(serve: Serve) -> None:
    site = await serve()
    await site.gateway.close(0)
    await site.gateway.close(0)
    await Gateway(GatewayOptions(), Life()).close(0)


async def test_a_body_that_is_too_large_is_refused_before_it_is_sent(serve: Serve) -> None:
    site = await serve(max_body_bytes=1000)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.gateway.port)
    writer.write(
        b"POST /prompt HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n"
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body_too_large"' in await reader.readuntil(b"}")
    writer.close()
    await writer.wait_closed()
    assert site.comfy.seen == []
    async with site.http.post("/prompt", data=b"x" * 1000) as within:
        assert within.status == 200


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET /prompt HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
        b"GET /prompt HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 9000 + b"\r\n\r\n",
        b"GET /prompt?" + b"y" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /prompt HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12",
        b"POST /prompt HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /prompt HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, x\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["line", "space", "long header", "long line", "lengths", "framing", "coding", "TLS"],
)
async def test_what_is_no_http_is_a_400_in_the_one_shape(serve: Serve, request_: bytes) -> None:
    site = await serve(expose_comfyui=True)
    answer = await site.raw(request_)
    assert answer.partition(b" ")[2].startswith(b"400 ")
    assert b'"code":"invalid_request"' in answer
    assert b"yyyy" not in answer
    assert site.comfy.seen == []


async def test_another_version_of_http_is_a_505(serve: Serve) -> None:
    site = await serve()
    answer = await site.raw(b"GET /prompt/a HTTP/2.0\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert answer.partition(b" ")[2].startswith(b"505 ")
    assert b'"code":"http_version_not_supported"' in answer
    assert site.comfy.seen == []


async def test_a_body_behind_an_upgrade_is_passed_on_or_refused(serve: Serve) -> None:
    bodies: list[bytes] = []

    async def keep(request: web.BaseRequest) -> web.Response:
        bodies.append(await request.read())
        return web.Response(body=b"kept")

    site = await serve(keep)
    answer = await site.raw(
        b"POST /prompt HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\n"
        b"Upgrade: websocket\r\nContent-Length: 4\r\n\r\nbody"
    )
    # aiohttp before 3.14 loses it: then nothing is passed on, and the client is told.
    told = [answer.endswith(b"kept"), b"Upgrade can have no body" in answer]
    assert (told, bodies) in [([True, False], [b"body"]), ([False, True], [])]


@pytest.mark.parametrize("sent", [b"", b"GET /prompt HTTP/1.1\r\nHost: a\r\n"])
async def test_a_connection_that_sends_no_request_is_ended(serve: Serve, sent: bytes) -> None:
    site = await serve(first_request_s=0.05)
    assert await site.raw(sent) == b""


async def test_one_that_has_sent_a_request_may_take_its_time(serve: Serve) -> None:
    async def slow(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(0.2)
        return web.Response(body=b"late")

    site = await serve(slow, first_request_s=0.05)
    async with site.http.get("/prompt/a") as answer:
        assert await answer.read() == b"late"


async def test_a_failure_of_our_own_is_a_500_in_the_one_shape(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site = await serve()
    monkeypatch.setattr(site.gateway, "_routed", None)
    assert await site.error("GET", "/prompt/a?token=hush") == (500, "internal_error")
    assert "A request failed in the gateway" in caplog.text
    assert "hush" not in caplog.text
