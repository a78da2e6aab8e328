from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from comfyui_stateless import draining
from comfyui_stateless.draining import Drain, drain
from comfyui_stateless.readiness import Phase
from tests.accepting import Life, Live, lives, loading_graph, messages
from tests.fakes import Gate, Play, eventually, graph
from tests.webhooks.receivers import Receiver, never
from tests.wiring import app_for

pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    receiver = await Receiver().start()
    yield receiver
    await receiver.stop()


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    async for start in lives(tmp_path):
        yield start


class Site:
    """A server of a life, on a port of its own, that goes on answering while it drains."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.session = aiohttp.ClientSession()
        self._runner = web.AppRunner(
            app_for(life.services, life.background),
            access_log=None,
            shutdown_timeout=1,
        )
        self.origin = ""

    async def start(self) -> Site:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.origin = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def stop(self) -> None:
        await self.session.close()
        await self._runner.cleanup()

    async def post(self, **fields: Any) -> tuple[int, Any, Any]:
        sent = {"prompt": graph(), **fields}
        async with self.session.post(f"{self.origin}/prompt", json=sent) as response:
            return response.status, await response.json(), response.headers

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.session.get(f"{self.origin}{path}") as response:
            return response.status, await response.json()

    def drain(self) -> asyncio.Future[None]:
        return asyncio.ensure_future(drain(self.life.services, self.life.background))


@pytest.fixture
async def serve() -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:

        async def start(life: Life) -> Site:
            site = await Site(life).start()
            stack.push_async_callback(site.stop)
            return site

        yield start


async def attempts(life: Life) -> dict[str, int]:
    return {job.id: job.attempts for job in await life.unfinished()}


async def test_a_server_that_drains_takes_no_work_and_says_when_to_come_back(
    live: Live, serve: Any
) -> None:
    gate = Gate()
    site = await serve(await live(gate))
    running = asyncio.ensure_future(site.post(id="running"))
    await eventually(lambda: site.life.engine.ran == ["running"])
    ending = site.drain()
    await asyncio.sleep(0)
    status, body, headers = await site.post(id="new")
    assert (status, body["code"], headers["Retry-After"]) == (503, "unavailable", "5")
    assert (await site.get("/ready"))[0] == 503
    assert (await site.get("/health"))[0] == 200
    assert (await site.get("/prompt/running"))[1]["state"] == "running"
    gate.is_open.set()
    assert (await running)[0] == 200
    await ending
    assert site.life.engine.ran == ["running"]


async def test_what_runs_is_finished_and_what_waits_is_run_after_the_next_start(
    live: Live, serve: Any, there: Receiver
) -> None:
    gate = Gate()
    site = await serve(await live(gate))
    for name in ("runs", "next", "waits"):
        assert (await site.post(id=name, webhook_v2=there.url))[0] == 202
    await eventually(lambda: site.life.engine.ran == ["runs"])
    ending = site.drain()
    await eventually(lambda: site.life.services.jobs.find("next") is None)
    assert not ending.done()
    gate.is_open.set()
    await ending
    assert [message["id"] for message in messages(there)] == ["runs"]

    held = await live(Gate(), resume=False)
    assert await attempts(held) == {"next": 0, "waits": 0}
    await held.end()
    again = await live()
    await eventually(lambda: len(there.received) == 3)
    assert sorted(again.engine.ran) == ["next", "waits"]
    assert {message["type"] for message in messages(there)} == {"prompt.complete"}


async def test_after_the_grace_callers_get_a_503_and_accepted_jobs_stay_in_the_journal(
    live: Live, serve: Any, there: Receiver
) -> None:
    site = await serve(await live(Gate(), shutdown_grace_s=0.1))
    assert (await site.post(id="accepted", webhook_v2=there.url))[0] == 202
    await eventually(lambda: site.life.engine.ran == ["accepted"])
    waiting = asyncio.ensure_future(site.post(id="waits"))
    await eventually(lambda: site.life.services.jobs.depth() == 2)
    await site.drain()
    status, body, headers = await waiting
    assert (status, body["code"], headers["Retry-After"]) == (503, "unavailable", "5")
    assert there.received == []

    again = await live(resume=False)
    assert await attempts(again) == {"accepted": 1}
    await again.background.resume()
    await eventually(lambda: bool(there.received))
    (message,) = messages(there)
    assert (message["id"], message["type"]) == ("accepted", "prompt.complete")


async def test_a_caller_whose_request_is_not_accepted_yet_gets_a_503(
    live: Live, serve: Any, there: Receiver
) -> None:
    origin = await Receiver([never]).start()
    site = await serve(await live(shutdown_grace_s=0.1))
    sent = loading_graph(f"{origin.origin}/a.png")
    asking = asyncio.ensure_future(site.post(id="a", webhook_v2=there.url, prompt=sent))
    await eventually(lambda: bool(origin.received))
    await site.drain()
    status, body, _ = await asking
    assert (status, body["code"]) == (503, "unavailable")
    await origin.stop()
    again = await live()
    assert await again.unfinished() == []


async def test_a_job_with_api_keys_is_not_parked_but_run_within_the_grace(
    live: Live, serve: Any, there: Receiver
) -> None:
    """After the next start it could only fail."""
    gate = Gate()
    site = await serve(await live(gate))
    extra = {"api_key_comfy_org": "geheim"}
    for name in ("runs", "next", "secret"):
        fields = {"extra_data": extra} if name == "secret" else {}
        assert (await site.post(id=name, webhook_v2=there.url, **fields))[0] == 202
    await eventually(lambda: site.life.engine.ran == ["runs"])
    ending = site.drain()
    await eventually(lambda: site.life.services.jobs.find("next") is None)
    gate.is_open.set()
    await ending
    assert site.life.engine.ran == ["runs", "secret"]
    assert {m["id"]: m["type"] for m in messages(there)} == {
        "runs": "prompt.complete",
        "secret": "prompt.complete",
    }


async def test_a_shared_run_gets_its_grace_and_then_its_callers_get_a_503_and_may_repeat(
    live: Live, serve: Any
) -> None:
    site = await serve(await live(Gate(), shutdown_grace_s=0.1))
    sent, headers = {"id": "a", "prompt": graph()}, {"Idempotency-Key": "key"}

    async def ask(site: Site) -> int:
        url = f"{site.origin}/prompt"
        async with site.session.post(url, json=sent, headers=headers) as response:
            await response.read()
            return response.status

    asking = [asyncio.ensure_future(ask(site)) for _ in range(2)]
    await eventually(lambda: bool(site.life.engine.ran))
    await site.drain()
    assert await asyncio.gather(*asking) == [503, 503]
    again = await serve(await live())
    assert await ask(again) == 200


async def test_the_events_of_a_parked_job_end_without_an_end(
    live: Live, serve: Any, there: Receiver
) -> None:
    gate = Gate()
    site = await serve(await live(gate))
    for name in ("runs", "next"):
        await site.post(id=name, webhook_v2=there.url)
    await eventually(lambda: bool(site.life.engine.ran))
    async with site.session.get(f"{site.origin}/prompt/next/events") as response:
        ending = site.drain()
        text = await response.text()
    assert "event: queued" in text
    assert "succeeded" not in text
    assert "failed" not in text
    gate.is_open.set()
    await ending


async def test_messages_that_wait_for_another_try_are_left_for_the_next_start(
    live: Live, serve: Any, there: Receiver
) -> None:
    there.answers = [500]

    async def long(_: float) -> None:
        await asyncio.sleep(60)

    site = await serve(await live(accepting={"sleep": long}))
    await site.post(id="a", webhook_v2=there.url)
    await eventually(lambda: len(there.received) == 1)
    await asyncio.wait_for(site.drain(), 4)
    await live()
    await eventually(lambda: len(there.received) == 2)
    assert len({got.message_id for got in there.received}) == 1


async def test_a_drain_leaves_nothing_of_its_jobs_on_the_disk(
    live: Live, serve: Any, there: Receiver
) -> None:
    async def writes(play: Play) -> None:
        play.file("a.bin", b"content")
        await asyncio.Event().wait()

    site = await serve(await live(writes, shutdown_grace_s=0.1))
    for name in ("a", "b"):
        await site.post(id=name, webhook_v2=there.url)
    await eventually(lambda: bool(site.life.engine.ran))
    await site.drain()
    assert not any(folder.exists() for folder in site.life.engine.workspaces)


# Signals


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """Count what ends the process: ComfyUI ends itself on SIGINT."""
    caught: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
    try:
        yield caught
    finally:
        signal.signal(signal.SIGINT, before)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


async def test_sigterm_drains_and_then_ends_the_process(live: Live, there: Receiver) -> None:
    gate = Gate()
    life = await live(gate)
    await life.accept(id="a", webhook_v2=there.url)
    await eventually(lambda: bool(life.engine.ran))
    with interrupts() as caught:
        Drain(life.services, life.background).install()
        signal.raise_signal(signal.SIGTERM)
        await eventually(lambda: life.services.readiness.phase is Phase.DRAINING)
        assert caught == []
        gate.is_open.set()
        await eventually(lambda: caught == [signal.SIGINT])
    assert [message["id"] for message in messages(there)] == ["a"]


async def test_a_second_sigterm_ends_the_process_at_once(live: Live, there: Receiver) -> None:
    life = await live(Gate())
    await life.accept(id="a", webhook_v2=there.url)
    await eventually(lambda: bool(life.engine.ran))
    with interrupts() as caught:
        draining_life = Drain(life.services, life.background)
        draining_life.install()
        signal.raise_signal(signal.SIGTERM)
        await eventually(lambda: life.services.readiness.phase is Phase.DRAINING)
        signal.raise_signal(signal.SIGTERM)
        await eventually(lambda: caught == [signal.SIGINT])
        assert draining_life._ending is not None
        draining_life._ending.cancel()
        await asyncio.gather(draining_life._ending, return_exceptions=True)
    assert [job.id for job in await life.unfinished()] == ["a"]


async def test_a_drain_that_fails_ends_the_process_all_the_same(
    live: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("inside")

    life = await live()
    monkeypatch.setattr(draining, "drain", fail)
    with interrupts() as caught:
        Drain(life.services, life.background).begin()
        await eventually(lambda: caught == [signal.SIGINT])
    assert "inside" in caplog.text


def test_a_process_that_was_started_with_sigint_ignored_ends_too() -> None:
    script = """
import asyncio, signal
from comfyui_stateless import draining
assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN

async def serve():
    asyncio.get_running_loop().call_soon(draining._end_process)
    await asyncio.sleep(30)

loop = asyncio.new_event_loop()
try:
    loop.run_until_complete(serve())
except KeyboardInterrupt:
    print("ended")
"""
    ignoring = ["sh", "-c", 'trap "" INT; exec "$0" -c "$1"', sys.executable, script]
    done = subprocess.run(ignoring, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "ended\n", done.stderr
