"""The API on a scripted engine, served from a thread: for fuzzers that block."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from aiohttp.test_utils import TestServer

from comfyui_stateless.engine import FileForm, MediaInput
from comfyui_stateless.pipeline import Services
from tests.api.conftest import PlainServer
from tests.fakes import FakeEngine
from tests.wiring import app_for, background_for, end, services_for

LOAD_IMAGE = {"LoadImage": {"image": MediaInput(is_marked=True, form=FileForm.NAME)}}

CAREFUL = {"http_trusted_origins": "", "prompt_webhook_retries": 0}
"""What fuzzers name is not this machine's to be reached."""


T = TypeVar("T")


@dataclass
class Served:
    """A running server.

    Attributes:
        folder: All that it may write in.
        errors: What reached the event loop's own handler of exceptions.
    """

    url: str
    folder: Path
    services: Services
    engine: FakeEngine
    errors: list[str] = field(default_factory=list)

    def until_idle(self) -> None:
        """Wait until no job has a folder: the last is left behind its answer's last byte."""
        deadline = time.monotonic() + 10
        while left := [folder for folder in self.engine.workspaces if folder.exists()]:
            assert time.monotonic() < deadline, left
            time.sleep(0.01)


@contextmanager
def served(folder: Path, engine: FakeEngine | None = None, **settings: Any) -> Iterator[Served]:
    """Serve the API, with settings by name, until the context is left."""
    chosen = engine or FakeEngine(file_inputs=LOAD_IMAGE)
    with in_a_thread(lambda: _serving(folder, chosen, settings)) as site:
        yield site


@contextmanager
def in_a_thread(serving: Callable[[], AsyncGenerator[T, None]]) -> Iterator[T]:
    """Give what a generator yields that is gone through on a thread with a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(step: Callable[[], Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(step(), loop).result(60)

    generator = serving()
    try:
        yield run(lambda: anext(generator))
        run(generator.aclose)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def send(
    site: Served, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    """Send a request; return the status and the body of its answer."""
    place = urlsplit(site.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
    try:
        sent = {name: value.strip().encode("latin-1") for name, value in headers.items()}
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        assert "\n" not in "".join(response.headers.values())
        return response.status, response.read()
    finally:
        connection.close()


async def _serving(
    folder: Path, engine: FakeEngine, settings: dict[str, Any]
) -> AsyncGenerator[Served, None]:
    errors: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: errors.append(str(context)))
    services = services_for(engine, folder, **{**CAREFUL, **settings})
    async with _open(services) as server:
        yield Served(str(server.make_url("")).rstrip("/"), folder, services, engine, errors)


@asynccontextmanager
async def _open(services: Services) -> AsyncIterator[TestServer]:
    background = background_for(services)
    await background.open()
    server = PlainServer(app_for(services, background))
    await server.start_server()
    try:
        yield server
    finally:
        await background.close()
        await server.close()
        await end(services)
