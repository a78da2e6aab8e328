"""A gateway in front of a server that tests script."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from comfyui_stateless.launcher.gateway import Gateway, GatewayOptions
from comfyui_stateless.launcher.life import Life, Phase

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

WAIT_S = 10.0


async def echo(request: web.BaseRequest) -> web.Response:
    return web.Response(body=await request.read())


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    target: str
    headers: list[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass
class Comfy:
    """What stands in for ComfyUI's server: answers by ``handler``, and notes what it saw."""

    handler: Handler = echo
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    origin: str = ""
    runner: web.ServerRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0, **options: Any) -> None:
        server = web.Server(
            self._noted,
            access_log=None,
            auto_decompress=False,
            handler_cancellation=True,
            **options,
        )
        self.runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, host, port).start()
        port = self.runner.addresses[0][1]
        self.origin = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def stop(self) -> None:
        """End, as a process does that is killed."""
        if self.runner is not None:
            for connection in self.runner.server.connections:  # type: ignore[union-attr]
                if connection.transport is not None:
                    connection.transport.abort()
            await self.runner.cleanup()
            self.runner = None

    async def _noted(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = [(name.decode(), value.decode("latin-1")) for name, value in request.raw_headers]
        self.seen.append(Seen(request.method, request.raw_path, raw))
        self.connections += 1
        try:
            return await self.handler(request)
        finally:
            self.connections -= 1

    @property
    def last(self) -> Seen:
        return self.seen[-1]


class Site:
    """A gateway with what is before and behind it.

    Attributes:
        moved: Bytes that a test has sent so far.
    """

    def __init__(self, gateway: Gateway, life: Life, comfy: Comfy) -> None:
        self.gateway = gateway
        self.life = life
        self.comfy = comfy
        self.moved = 0
        self.http = aiohttp.ClientSession(
            f"http://127.0.0.1:{gateway.port}",
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=WAIT_S),
        )

    async def ask(self, method: str, path: str, **how: Any) -> tuple[int, Any, Any]:
        """Return status, headers and the JSON of an answer."""
        async with self.http.request(method, path, **how) as answer:
            return answer.status, answer.headers, await answer.json()

    async def error(self, method: str, path: str, **how: Any) -> tuple[int, str]:
        """Return status and code of an error, which has to be in the one shape."""
        status, headers, body = await self.ask(method, path, **how)
        assert body["error"].endswith(".")
        assert isinstance(body["details"], dict)
        assert headers["Cache-Control"] == "no-store"
        return status, body["code"]

    async def raw(self, data: bytes) -> bytes:
        """Send bytes; return all that comes until the connection ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        writer.write(data)
        try:
            return await asyncio.wait_for(reader.read(), WAIT_S)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


Serve = Callable[..., Awaitable[Site]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a gateway that is up, with the handler of what is behind it, and its options."""
    begun: list[Site] = []

    async def serve(handler: Handler = echo, *, behind: str | None = None, **options: Any) -> Site:
        comfy = Comfy(handler)
        await comfy.start()
        life = Life(warm=True)
        life.enter(Phase.UP)
        chosen = {"host": "127.0.0.1", "port": 0, "upstream": behind or comfy.origin, **options}
        gateway = Gateway(GatewayOptions(**chosen), life)
        await gateway.start()
        begun.append(Site(gateway, life, comfy))
        return begun[-1]

    yield serve
    for site in begun:
        await site.http.close()
        await site.gateway.close(0)
        await site.comfy.stop()
