from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from comfyui_stateless.api.app import create_app
from comfyui_stateless.background import Background
from comfyui_stateless.board import Board, Recent
from comfyui_stateless.metrics import Metrics, Tallies
from comfyui_stateless.pipeline import Services
from comfyui_stateless.readiness import Phase
from tests.fakes import FakeEngine, graph
from tests.wiring import background_for, end, services_for

Client = TestClient[web.Request, web.Application]

NOTHING: Mapping[str, Any] = {}


class PlainServer(TestServer):
    """Runs an application as ComfyUI does: handlers are not cancelled when a client hangs up."""

    async def _make_runner(self, **kwargs: Any) -> web.AppRunner:
        return web.AppRunner(self.app, access_log=None, shutdown_timeout=5)


@dataclass
class Site:
    """A running server with the parts that tests look into."""

    client: Client
    services: Services
    engine: FakeEngine
    background: Background
    metrics: Metrics
    board: Board

    async def stop(self) -> None:
        """End this server, as a process that is told to end and given no time."""
        await self.background.close()
        await self.client.close()
        await self.metrics.close()
        await self.board.close()
        await end(self.services)

    def prompt(self, accept: str | None = None, **fields: Any) -> Any:
        """Post a prompt, the usual graph if no other is given."""
        headers = {} if accept is None else {"Accept": accept}
        return self.client.post("/prompt", json={"prompt": graph(), **fields}, headers=headers)


Start = Callable[[web.Application], Coroutine[Any, Any, Client]]
Serve = Callable[..., Coroutine[Any, Any, Site]]


@pytest.fixture(autouse=True)
def _plain_environment(plain_environment: None) -> None:
    """Have it for every test here."""


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start servers on free ports; all end with the test."""
    async with AsyncExitStack() as stack:

        async def start_app(app: web.Application) -> Client:
            timeout = aiohttp.ClientTimeout(total=30)
            client = TestClient(PlainServer(app), timeout=timeout)
            return await stack.enter_async_context(client)

        yield start_app


@pytest.fixture
async def serve(start: Start, tmp_path: Path) -> AsyncIterator[Serve]:
    """Serve an engine, a fake one if none is given, with settings by name.

    ``accepting`` has the arguments of ``background_for``. A server that is started when another
    has stopped takes up what that has left; ``background.resume`` is for the test to call.
    """
    sites: list[Site] = []

    async def serve_engine(
        engine: FakeEngine | None = None,
        *,
        phase: Phase = Phase.READY,
        headers: dict[str, str] | None = None,
        below: str = "",
        change: Callable[[web.Application], object] = lambda app: None,
        accepting: Mapping[str, Any] = NOTHING,
        **settings: Any,
    ) -> Site:
        tallies, recent = Tallies(), Recent(pictures=settings.get("result_ttl_s", 1) > 0)
        services = services_for(
            engine or FakeEngine(), tmp_path, phase, tallies=tallies, recent=recent, **settings
        )
        assert isinstance(services.engine, FakeEngine)
        background = background_for(services, **accepting)
        await background.open()
        metrics = Metrics(services, background, tallies)
        board = Board(services, background, recent)
        app = create_app(services, background, metrics, board, headers=headers or {})
        change(app)
        if below:
            root = web.Application(client_max_size=10)
            root.add_subapp(below, app)
            app = root
        client = await start(app)
        sites.append(Site(client, services, services.engine, background, metrics, board))
        return sites[-1]

    yield serve_engine
    for site in sites:
        await site.stop()
