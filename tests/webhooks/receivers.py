"""Real receivers on loopback, and time that passes when a test says so."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Answer = web.StreamResponse | int | Callable[[], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Received:
    """A request that a receiver got."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """A web server that records what it gets, and answers what it is told to.

    ``answers`` are given one after the other; after the last, 200.
    """

    answers: list[Answer] = field(default_factory=list)
    tls: ssl.SSLContext | None = None
    port: int = 0
    received: list[Received] = field(default_factory=list)
    most_at_once: int = 0
    _running: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"{self.origin}/hook"

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def start(self) -> Receiver:
        app = web.Application(client_max_size=1024**3)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        try:
            headers = {name.lower(): value for name, value in request.headers.items()}
            body = await request.read()
            self.received.append(Received(request.path_qs, headers, body))
            answer = self.answers.pop(0) if self.answers else 200
            if callable(answer):
                answer = await answer()
            if isinstance(answer, int):
                return web.Response(status=answer)
            return answer
        finally:
            self._running -= 1


@dataclass
class Digester(Receiver):
    """A receiver of bodies of any size; it keeps their length and their HMAC only."""

    key: bytes = b""
    length: int = 0
    signature: bytes = b""

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        name, timestamp = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        digest = hmac.new(self.key, f"{name}.{timestamp}.".encode(), hashlib.sha256)
        async for chunk in request.content.iter_chunked(2**16):
            digest.update(chunk)
            self.length += len(chunk)
        self.signature = digest.digest()
        self.received.append(Received(request.path_qs, dict(request.headers), b""))
        return web.Response()


class Sleeper:
    """Stands in for ``asyncio.sleep``: notes how long, does ``then``, and goes on at once."""

    def __init__(self, *then: Callable[[], Awaitable[Any]]) -> None:
        self.slept: list[float] = []
        self._then = list(then)

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self._then:
            await self._then.pop(0)()
        await asyncio.sleep(0)


async def never() -> int:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def asleep(_: float) -> None:
    """Sleep for ever."""
    await asyncio.Event().wait()


async def until(condition: Callable[[], object]) -> None:
    """Wait for something to become true; long enough for the slowest machine."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came true")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def bodies(received: Iterable[Received]) -> list[bytes]:
    return [one.body for one in received]
