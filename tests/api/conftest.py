from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from comfyui_stateless.api.app import create_app
from comfyui_stateless.config import Settings
from comfyui_stateless.jobs import Jobs
from comfyui_stateless.outputs import Encoders
from comfyui_stateless.pipeline import Services
from comfyui_stateless.readiness import Phase, Readiness
from tests.fakes import FakeEngine, graph

Client = TestClient[web.Request, web.Application]

ENCODERS = Encoders(threads=2)


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

    def prompt(self, accept: str | None = None, **fields: Any) -> Any:
        """Post a prompt, the usual graph if no other is given."""
        headers = {} if accept is None else {"Accept": accept}
        return self.client.post("/prompt", json={"prompt": graph(), **fields}, headers=headers)


Start = Callable[[web.Application], Coroutine[Any, Any, Client]]
Serve = Callable[..., Coroutine[Any, Any, Site]]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


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
def serve(start: Start) -> Serve:
    """Serve an engine, a fake one if none is given, with settings by name."""

    async def serve_engine(
        engine: FakeEngine | None = None,
        *,
        phase: Phase = Phase.READY,
        headers: dict[str, str] | None = None,
        **settings: Any,
    ) -> Site:
        services = services_for(engine or FakeEngine(), phase, **settings)
        assert isinstance(services.engine, FakeEngine)
        client = await start(create_app(services, headers=headers or {}))
        return Site(client, services, services.engine)

    return serve_engine


def services_for(engine: FakeEngine, phase: Phase, **settings: Any) -> Services:
    chosen = Settings(**settings)
    readiness = Readiness()
    readiness.enter(phase)
    jobs = Jobs(
        engine.queue_depth,
        max_depth=chosen.max_queue_depth,
        reject_when_full=chosen.reject_when_full,
    )
    return Services(chosen, readiness, engine, ENCODERS, jobs)
