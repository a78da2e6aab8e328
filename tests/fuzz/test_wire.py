"""Bytes of any kind on the wire: to the API, to the launcher's port, and to a WebSocket behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from comfyui_stateless.launcher.gateway import Gateway, GatewayOptions
from comfyui_stateless.launcher.life import Life, Phase
from tests.api.conftest import PlainServer
from tests.fakes import FakeEngine
from tests.fuzz.serving import Served, in_a_thread, send, served
from tests.wiring import app_for, background_for, end, services_for

PATIENCE_S = 0.2

KEY = "k\u00e9y"
SHOWN = st.one_of(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f")),
    st.sampled_from(
        [KEY, f"Bearer {KEY}", f"bearer  {KEY} ", f"Basic {KEY}", f"{KEY},other", "Bearer", "Bearer ", "other",
         KEY.upper(), KEY.encode().decode("latin-1"), f"Bearer {KEY.encode().decode('latin-1')}", f"{KEY} {KEY}"]
    ),
)  # fmt: skip
RIGHT = {KEY.encode().decode("latin-1"), "other"}


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("locked"), api_keys=f"{KEY}, other") as site:
        yield site
        assert not site.errors


@given(
    authorization=SHOWN, key=SHOWN, names=st.sets(st.sampled_from(["Authorization", "X-API-Key"]))
)
def test_only_a_key_lets_in(locked: Served, authorization: str, key: str, names: set[str]) -> None:
    said = {"Authorization": authorization, "X-API-Key": key}
    status, _ = send(locked, "GET", "/jobs", None, {name: said[name] for name in names})
    scheme, _, token = authorization.strip().partition(" ")
    by_bearer = "Authorization" in names and scheme.lower() == "bearer" and token.strip() in RIGHT
    assert (status == 200) == (by_bearer or ("X-API-Key" in names and key.strip() in RIGHT))
    assert status in (200, 401)


QUERIES = st.lists(
    st.sampled_from(
        ["limit=1", "limit=0", "limit=501", "limit=", "limit", "limit=%00", "limit=%d9%a1", "limit=1&limit=x", "&", "=",
         "%", "%zz", "%ff", "previews=yes", "previews=%59es", "previews=2", "a[]=1", "?", ";", "+", "limit=+1", "é", "#"]
    ),
    max_size=4,
).map("".join)  # fmt: skip
PATHS = st.sampled_from(
    ["/jobs", "/prompt/a/events", "/prompt/a", "/jobs/a/thumbnail", "/workflow/a", "/", "//jobs", "/docs/", "/%6aobs",
     "/metrics", "/jobs/%2e%2e/thumbnail", "/a/../jobs", "*", "http://a/jobs", "/ws", "/health"]
)  # fmt: skip
LINES = st.lists(
    st.one_of(
        st.sampled_from(
            ["Range: bytes=0-0", "Range: bytes=-", "Transfer-Encoding: chunked", "Content-Length: 5", "Content-Length: -1",
             "Content-Length: 99999999999999999999", "Expect: 100-continue", "Expect: x", "Upgrade: websocket", "Upgrade: h2c",
             "Connection: Upgrade", "Connection: keep-alive", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: x",
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key: x", "Sec-WebSocket-Protocol: a, , b",
             "Sec-WebSocket-Extensions: permessage-deflate; x=1", "Origin: null", "Origin: http://[", "Host: a:b", "Host:",
             "Cookie: a=b; c", "Content-Type: application/json; charset=\"", "Content-Type: multipart/form-data; boundary=\"\"",
             "Content-Encoding: deflate", "X: " + "y" * 9000, "é: a", ": a", "a", " folded", "TE: trailers", "Last-Event-ID: \xff",
             "Accept: */*;q=", "X-Forwarded-For: ,", "Keep-Alive: timeout=x", "If-None-Match: *"]
        ),
        st.text(st.characters(min_codepoint=1, max_codepoint=0xFF), max_size=20),
    ),
    max_size=6,
)  # fmt: skip
METHODS = st.sampled_from(
    ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "CONNECT", "TRACE", "get", "X" * 50, ""]
)
BODIES = st.sampled_from(
    [
        b"",
        b"{}",
        b"5\r\nabcde\r\n0\r\n\r\n",
        b"zz\r\n",
        b"0\r\nA: b\r\n\r\n",
        b"\x88\x02\x03\xe8",
        b"x" * 70000,
    ]
)


WELL = ("/api/stateless/jobs", "/jobs")
"""What is asked at the end, of the API and of the launcher."""


class Both:
    """The API behind the launcher's gateway, each on a port of its own.

    Attributes:
        errors: What reached the loop's own handler of exceptions.
    """

    def __init__(self, ports: tuple[int, int], errors: list[str]) -> None:
        self.ports = ports
        self.errors = errors

    def say(self, port: int, data: bytes, patience_s: float = PATIENCE_S) -> bytes:
        """Send bytes; return the beginning of the answer, nothing where more is waited for."""
        with socket.create_connection(("127.0.0.1", port), timeout=patience_s) as connection:
            found = b""
            with contextlib.suppress(OSError):  # it may not want to read to the end
                connection.sendall(data)
            with contextlib.suppress(OSError):
                while b"\r\n\r\n" not in found and (piece := connection.recv(65536)):
                    found += piece
            return found


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("wire")
    with in_a_thread(lambda: _both(folder)) as both:
        yield both
        heads = [f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for path in WELL]
        well = [both.say(*each, 20) for each in zip(both.ports, heads, strict=True)]
    assert [answer[:12] for answer in well] == [b"HTTP/1.1 200"] * 2
    assert not both.errors


async def _both(folder: Path) -> AsyncGenerator[Both, None]:
    errors: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, said: errors.append(str(said)))
    services = services_for(FakeEngine(), folder)
    background = background_for(services)
    await background.open()
    root = web.Application()
    root.router.add_get("/ws", _echo)
    root.add_subapp("/api/stateless", app_for(services, background))
    server = PlainServer(root)
    await server.start_server()
    life = Life(warm=True)
    life.enter(Phase.UP)
    upstream = str(server.make_url("")).rstrip("/")
    gateway = Gateway(GatewayOptions("127.0.0.1", 0, upstream, expose_comfyui=True), life)
    await gateway.start()
    try:
        yield Both((server.port or 0, gateway.port), errors)
    finally:
        await gateway.close(0)
        await background.close()
        await server.close()
        await end(services)


async def _echo(request: web.Request) -> web.WebSocketResponse:
    client = web.WebSocketResponse()
    await client.prepare(request)
    async for message in client:
        if message.type is aiohttp.WSMsgType.TEXT:
            await client.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await client.send_bytes(message.data)
    return client


@pytest.mark.parametrize("which", [0, 1], ids=["api", "launcher"])
@given(method=METHODS, path=PATHS, query=QUERIES, lines=LINES, body=BODIES,
       version=st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.", ""]))  # fmt: skip
def test_any_request_has_an_answer_that_is_no_failure(
    both: Both,
    which: int,
    method: str,
    path: str,
    query: str,
    lines: list[str],
    body: bytes,
    version: str,
) -> None:
    prefix = "/api/stateless" if which == 0 and path.startswith("/") else ""
    head = "\r\n".join([f"{method} {prefix}{path}?{query} {version}", "Host: a", *lines, "", ""])
    answer = both.say(both.ports[which], head.encode("latin-1") + body)
    if answer:
        status = int(answer.split(b" ", 2)[1])
        assert answer.startswith(b"HTTP/"), answer
        assert status < 500 or (status, version) == (505, "HTTP/2.0"), answer[:2000]


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%b\r\n"
)
FRAMES = st.lists(
    st.one_of(
        st.sampled_from(
            [b"\x81\x81\0\0\0\0a", b"\x82\x80\0\0\0\0", b"\x81\x01a", b"\x01\x81\0\0\0\0a", b"\x80\x80\0\0\0\0",
             b"\x88\x80\0\0\0\0", b"\x88\x82\0\0\0\0\x03\xe8", b"\x88\x82\0\0\0\0\x03\xed", b"\x88\x81\0\0\0\0\x03",
             b"\x88\x84\0\0\0\0\x03\xe8\xff\xff", b"\x89\x80\0\0\0\0", b"\x8a\x80\0\0\0\0", b"\x09\x80\0\0\0\0",
             b"\x81\xff" + b"\xff" * 8, b"\x81\xfe\xff\xff", b"\xc1\x81\0\0\0\0a", b"\x81\x82\0\0\0\0\xff\xff",
             b"\x83\x80\0\0\0\0", b"\x89\xfe\x01\0\0\0\0\0" + bytes(256), b"\x88\x82\0\0\0\0\0\0"]
        ),
        st.binary(max_size=12),
    ),
    max_size=6,
).map(b"".join)  # fmt: skip


@given(
    frames=FRAMES, more=st.sampled_from([b"", b"Sec-WebSocket-Extensions: permessage-deflate\r\n"])
)
def test_any_frames_end_their_own_websocket_only(both: Both, frames: bytes, more: bytes) -> None:
    answer = both.say(both.ports[1], HANDSHAKE % more + frames, 20)
    assert answer.startswith(b"HTTP/1.1 101"), answer[:500]
