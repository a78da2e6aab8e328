from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from comfyui_stateless import saladcloud
from comfyui_stateless.config import on_saladcloud
from comfyui_stateless.saladcloud import keep_deletion_cost
from tests.accepting import Live, lives
from tests.fakes import Gate, eventually
from tests.webhooks.receivers import Receiver, free_port


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saladcloud, "INTERVAL_S", 0.005)
    monkeypatch.setattr(saladcloud, "RETRY_S", 0.01)


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    async for start in lives(tmp_path):
        yield start


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    receiver = await Receiver().start()
    yield receiver
    await receiver.stop()


class Metadata:
    """SaladCloud's metadata service: what it was told, and what it answers (204 after that)."""

    def __init__(self, *answers: int) -> None:
        self.told: list[tuple[str, str, str | None, Any]] = []
        self.answers = list(answers)
        self.hangs = False
        self.url = ""

    @property
    def costs(self) -> list[int]:
        return [body["deletion_cost"] for _, _, _, body in self.told]

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[Metadata]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        marker, body = request.headers.get("Metadata"), await request.json()
        self.told.append((request.method, request.path, marker, body))
        if self.hangs:
            await asyncio.Event().wait()
        return web.Response(status=self.answers.pop(0) if self.answers else 204)


class Queue:
    """A queue whose length is asked for."""

    def __init__(self) -> None:
        self.depth = 0
        self.asked = 0

    def __call__(self) -> int:
        self.asked += 1
        return self.depth

    async def asked_again(self, times: int = 3) -> None:
        before = self.asked
        await eventually(lambda: self.asked >= before + times)


@asynccontextmanager
async def keeping(url: str, queue: Queue) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.ensure_future(keep_deletion_cost(url, queue))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_cost_follows_the_queue_and_is_told_only_when_it_changes() -> None:
    queue = Queue()
    async with Metadata().serving() as there, keeping(f"{there.url}/", queue):
        for depth in (0, 3, 3, 1, 0):
            queue.depth = depth
            await queue.asked_again()
    assert there.costs == [0, 3, 1, 0]
    assert {call[:3] for call in there.told} == {("PUT", "/v1/deletion-cost", "true")}
    assert {tuple(call[3]) for call in there.told} == {("deletion_cost",)}


@pytest.mark.parametrize("status", [404, 429, 500, 302])
async def test_a_cost_that_is_refused_is_told_again_and_logged_once(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Queue()
    queue.depth = 2
    async with Metadata(*[status] * 5).serving() as there, keeping(there.url, queue):
        await eventually(lambda: len(there.told) == 6)
        await queue.asked_again()
    assert there.costs == [2] * 6
    assert [record.getMessage().split(": ")[-1] for record in caplog.records] == [
        f"it answers {status}"
    ]


async def test_the_latest_cost_is_what_counts_after_a_while_of_trouble() -> None:
    queue = Queue()
    queue.depth = 5
    async with Metadata(500, 500).serving() as there, keeping(there.url, queue):
        await eventually(lambda: bool(there.told))
        queue.depth = 1
        await eventually(lambda: len(there.told) >= 3)
        await queue.asked_again()
    assert there.costs[-1] == 1
    assert there.costs.count(1) <= 2


async def test_a_service_that_comes_up_later_is_told_then(caplog: pytest.LogCaptureFixture) -> None:
    queue, there = Queue(), Metadata()
    port = free_port()
    async with keeping(f"http://127.0.0.1:{port}", queue):
        await queue.asked_again(5)
        async with there.serving(port):
            await eventually(lambda: bool(there.told))
    assert there.costs == [0]
    assert len(caplog.records) == 1


async def test_a_service_that_hangs_is_given_up_and_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(saladcloud, "TIMEOUT", aiohttp.ClientTimeout(total=0.05))
    there = Metadata()
    there.hangs = True
    async with there.serving(), keeping(there.url, Queue()):
        await eventually(lambda: len(there.told) >= 2)


@pytest.mark.parametrize("url", ["not a url", "http://", "http://no-such-host.invalid"])
async def test_an_address_of_no_use_ends_nothing(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Queue()
    async with keeping(url, queue) as task:
        await eventually(lambda: queue.asked >= 3)
        assert not task.done()
    assert len(caplog.records) == 1


async def test_the_cost_is_the_depth_of_the_queue_and_a_service_that_hangs_delays_no_job(
    live: Live, there: Receiver
) -> None:
    gate, metadata = Gate(), Metadata()
    life = await live(gate)
    queue = life.services.jobs.depth
    async with metadata.serving():
        keeper = asyncio.ensure_future(keep_deletion_cost(metadata.url, queue))
        await eventually(lambda: metadata.costs == [0])
        for name in ("a", "b", "c"):
            await life.accept(id=name, webhook_v2=there.url)
        await eventually(lambda: metadata.costs[-1] == 3)
        metadata.hangs = True
        gate.is_open.set()
        await eventually(lambda: len(there.received) == 3)
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, False),
        ({"SALAD_MACHINE_ID": ""}, False),
        ({"SALAD_METADATA_URL": "http://x"}, False),
        ({"SALAD_MACHINE_ID": "m"}, True),
    ],
)
def test_a_machine_of_saladcloud_s_is_known_by_its_id(environ: dict[str, str], found: bool) -> None:
    assert on_saladcloud(environ) is found
