"""GET /jobs, /events and /status, and stopping one run."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from comfyui_stateless.api import events
from comfyui_stateless.api.board_schemas import JobsReply, ListedJob, ServerStatus
from comfyui_stateless.board import board, feed, recent
from comfyui_stateless.errors import ExecutionError
from comfyui_stateless.readiness import Phase
from tests.accepting import soon
from tests.api.conftest import Serve, Site
from tests.fakes import FakeEngine, Gate, Play, eventually, graph
from tests.webhooks.receivers import Receiver

SECRET = "planted-secret-value"


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    receiver = await Receiver().start()
    yield receiver
    await receiver.stop()


async def listed(site: Site, query: str = "") -> list[dict[str, Any]]:
    async with site.client.get(f"/jobs{query}") as response:
        assert response.status == 200, await response.text()
        body = await response.json()
    JobsReply.model_validate(body)
    return list(body["jobs"])


async def run(site: Site, caller_id: str = "a", **fields: Any) -> int:
    async with site.prompt(id=caller_id, **fields) as response:
        await response.read()
        return int(response.status)


class Stream:
    """The events of a stream, as they come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def event(self) -> tuple[str, Any]:
        name = ""
        while True:
            line = (await asyncio.wait_for(self._response.content.readline(), 10)).decode()
            assert line, "the stream has ended"
            if line.startswith(":"):
                return "comment", None
            if line.startswith("event: "):
                name = line[7:].strip()
            if line.startswith("data: "):
                return name, json.loads(line[6:])

    async def until(self, name: str, **wanted: Any) -> Any:
        """Return the data of the first event of a name that has these values."""
        while True:
            got, data = await self.event()
            if got == name and all(data[key] == value for key, value in wanted.items()):
                return data


@asynccontextmanager
async def followed(site: Site) -> AsyncIterator[Stream]:
    async with site.client.get("/events") as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        yield Stream(response)


# The list


async def test_a_job_that_runs_tells_its_node_and_those_that_wait_their_places(
    serve: Serve, there: Receiver
) -> None:
    async def script(play: Play) -> None:
        play.event("executing", node="1")
        play.event("progress", node="1", value=3, max=4)
        await asyncio.Event().wait()

    site = await serve(FakeEngine(script))
    assert await listed(site) == []
    for name in ("a", "b", "c"):
        assert await run(site, name, webhook_v2=there.url) == 202
    await eventually(lambda: site.services.jobs.find("a").progress.node_id == "1")  # type: ignore[union-attr]
    jobs = await listed(site)
    assert [job["id"] for job in jobs] == ["c", "b", "a"]
    assert [job["position"] for job in jobs] == [2, 1, None]
    first = jobs[-1]
    assert (first["state"], first["progress"], first["mode"]) == ("running", 0.375, "accepted")
    assert first["nodes"] == [{"node_id": "1", "class_type": "EmptyImage", "value": 3, "max": 4}]
    assert first["created"] <= first["started"]
    assert (first["ended"], first["error"], first["source"]) == (None, None, "prompt")


async def test_jobs_that_ended_stay_listed_whatever_the_ttl(serve: Serve) -> None:
    async def script(play: Play) -> None:
        if play.prompt.id == "bad":
            raise ExecutionError(
                "x" * 5000, location="prompt.2", details={"node_id": "2", "class_type": "SaveImage"}
            )
        play.image()
        play.file("b.bin", b"x")

    site = await serve(FakeEngine(script), result_ttl_s=0)
    assert [await run(site, name) for name in ("good", "bad")] == [200, 500]
    bad, good = await listed(site)
    assert (good["state"], good["progress"], good["mode"]) == ("succeeded", 1.0, "synchronous")
    assert good["outputs"] == {"count": 2, "media_type": "image/png"}
    assert good["thumbnail"] is None
    assert good["created"] <= good["started"] <= good["ended"]
    assert bad["state"] == "failed"
    error = bad["error"]
    assert (error["code"], error["node_id"], error["class_type"]) == (
        "execution_error", "2", "SaveImage",
    )  # fmt: skip
    assert len(error["error"]) == 1000
    assert error["location"] == "prompt.2"


async def test_runs_of_one_id_have_keys_of_their_own(serve: Serve) -> None:
    site = await serve()
    for _ in range(3):
        await run(site, "same")
    jobs = await listed(site)
    assert {job["id"] for job in jobs} == {"same"}
    assert len({job["run"] for job in jobs}) == 3


async def test_the_list_is_bounded_and_what_lives_outranks_what_has_ended(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent, "KEPT", 5)
    gate = Gate()
    gate.is_open.set()
    site = await serve(FakeEngine(gate))
    for number in range(8):
        await run(site, str(number))
    assert [job["id"] for job in await listed(site)] == ["7", "6", "5", "4", "3"]
    gate.is_open.clear()
    waiting = []
    for depth, name in enumerate(("r", "q1", "q2"), 1):
        waiting.append(asyncio.ensure_future(run(site, name)))
        await eventually(lambda: len(site.services.jobs.positions()) == depth)  # noqa: B023 - awaited
    await eventually(lambda: len(site.engine.ran) == 9)
    assert [job["id"] for job in await listed(site, "?limit=2")] == ["q1", "r"]
    assert len(await listed(site, "?limit=500")) == 8
    gate.is_open.set()
    await asyncio.gather(*waiting)


@pytest.mark.parametrize("limit", ["0", "-1", "501", "x", "", "9" * 5000, "\u0663"])
async def test_a_limit_that_is_none_is_refused(serve: Serve, limit: str) -> None:
    site = await serve()
    async with site.client.get("/jobs", params={"limit": limit}) as response:
        assert response.status == 400
        assert (await response.json())["location"] == "limit"


async def test_a_picture_has_a_thumbnail(serve: Serve) -> None:
    site = await serve()
    await run(site)
    jobs = await listed(site)
    await eventually(lambda: site.board.thumbnail(jobs[0]["run"]) is not None)
    (job,) = await listed(site)
    assert job["thumbnail"] == f"jobs/{job['run']}/thumbnail"
    async with site.client.get(f"/{job['thumbnail']}") as response:
        assert (response.status, response.content_type) == (200, "image/jpeg")
        with Image.open(io.BytesIO(await response.read())) as image:
            assert image.size == (4, 4)


async def test_what_has_no_thumbnail_is_a_404(serve: Serve) -> None:
    site = await serve()
    async with site.client.get("/jobs/nothing/thumbnail") as response:
        assert (response.status, (await response.json())["code"]) == (404, "not_found")


# Stopping one


async def test_one_run_is_stopped_and_its_namesake_goes_on(serve: Serve) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate))
    asking = [asyncio.ensure_future(run(site, "same")) for _ in range(2)]
    await eventually(lambda: len(site.services.jobs.live()) == 2 and bool(site.engine.ran))
    queued = next(job for job in await listed(site) if job["state"] == "queued")
    for status, outcome in ((200, "success"), (404, "failed")):
        async with site.client.post(f"/jobs/{queued['run']}/interrupt") as response:
            assert response.status == status
            assert await response.json() == {"id": "same", "interrupted": outcome}
        await eventually(lambda: len(site.services.jobs.live()) == 1)
    gate.is_open.set()
    assert sorted(await asyncio.gather(*asking)) == [200, 409]


async def test_an_unknown_run_cannot_be_stopped(serve: Serve) -> None:
    site = await serve()
    async with site.client.post("/jobs/nothing/interrupt") as response:
        assert response.status == 404
        assert await response.json() == {"id": "nothing", "interrupted": "failed"}


# The stream


async def test_a_job_is_told_from_its_beginning_to_its_end(serve: Serve) -> None:
    goes_on = asyncio.Event()

    async def script(play: Play) -> None:
        play.event("executing", node="1")
        await goes_on.wait()
        play.image()

    site = await serve(FakeEngine(script))
    async with followed(site) as stream:
        name, snapshot = await stream.event()
        assert (name, snapshot["jobs"]) == ("snapshot", [])
        ServerStatus.model_validate(snapshot["status"])
        asking = asyncio.ensure_future(run(site, "a"))
        running = await stream.until("job", state="running")
        ListedJob.model_validate(running)
        assert (running["id"], running["nodes"][0]["class_type"]) == ("a", "EmptyImage")
        goes_on.set()
        ended = await stream.until("job", state="succeeded")
        assert ended["run"] == running["run"]
        if ended["thumbnail"] is None:
            ended = await stream.until("job", thumbnail=f"jobs/{running['run']}/thumbnail")
        await asking


async def test_a_job_that_is_listed_no_more_is_removed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent, "KEPT", 1)
    site = await serve()
    await run(site, "old")
    async with followed(site) as stream:
        _, snapshot = await stream.event()
        (old,) = snapshot["jobs"]
        await run(site, "new")
        assert await stream.until("removed") == {"run": old["run"]}


async def test_one_who_comes_back_gets_a_snapshot_of_now(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "IDLE_S", 0.02)
    site = await serve()
    for count in range(3):
        async with followed(site) as stream:
            _, snapshot = await stream.event()
            assert len(snapshot["jobs"]) == count
        await eventually(lambda: site.board._recent.watchers == 0, within_s=10)
        await run(site, str(count))


async def test_the_server_s_state_is_told_when_it_changes(serve: Serve) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate))
    async with followed(site) as stream:
        await stream.until("snapshot")
        asking = asyncio.ensure_future(run(site))
        said = await stream.until("status")
        while said["queue"]["depth"] != 1:
            said = await stream.until("status")
        site.services.readiness.enter(Phase.DRAINING)
        said = await stream.until("status", phase="draining")
        assert (said["ready"], said["reason"]) == (False, "The server is shutting down.")
        gate.is_open.set()
        await asking


async def test_much_progress_is_told_little(serve: Serve) -> None:
    steps = 2000

    async def script(play: Play) -> None:
        play.event("executing", node="1")
        for value in range(steps):
            play.event("progress", node="1", value=value, max=steps)
            if value % 100 == 0:
                await asyncio.sleep(0.01)
        play.image()

    site = await serve(FakeEngine(script))
    async with followed(site) as stream:
        await stream.until("snapshot")
        asking = asyncio.ensure_future(run(site))
        told = 0
        while True:
            name, data = await stream.event()
            told += name == "job"
            if name == "job" and data["state"] == "succeeded":
                break
        assert told < steps / 20
        await asking


async def test_every_event_is_written_once_for_all_streams_and_none_without(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    frame = feed.frame

    def counted(name: str, data: Any) -> bytes:
        written.append(name)
        return frame(name, data)

    monkeypatch.setattr(events, "IDLE_S", 0.2)
    monkeypatch.setattr(feed, "frame", counted)
    monkeypatch.setattr(board, "frame", counted)
    gate = Gate()
    site = await serve(FakeEngine(gate))
    url = site.client.make_url("/events")
    async with AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        streams = [Stream(await stack.enter_async_context(session.get(url))) for _ in range(100)]
        for stream in streams:
            await stream.until("snapshot")
        gate.is_open.set()
        await run(site)
        for stream in streams:
            await stream.until("job", state="succeeded")
        assert written.count("job") <= 6
        assert written.count("snapshot") <= 4


async def test_while_nobody_watches_nothing_is_looked_at(serve: Serve) -> None:
    site = await serve()
    async with followed(site) as stream:
        await stream.until("snapshot")
        assert len(site.board._watching) == 2
    await eventually(lambda: not site.board._watching, within_s=10)


async def test_a_comment_comes_when_nothing_has_changed_for_a_while(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "IDLE_S", 0.02)
    site = await serve()
    async with followed(site) as stream:
        await stream.until("snapshot")
        assert "comment" in [(await stream.event())[0] for _ in range(3)]


@pytest.mark.parametrize("path", ["/jobs", "/events", "/status", "/jobs/a/thumbnail"])
async def test_all_of_it_needs_a_key_where_others_do(serve: Serve, path: str) -> None:
    site = await serve(api_keys="k")
    async with site.client.get(path) as response:
        assert response.status == 401
    async with site.client.post("/jobs/a/interrupt") as response:
        assert response.status == 401


async def test_a_stream_has_no_head(serve: Serve) -> None:
    site = await serve()
    async with site.client.head("/events") as response:
        assert response.status == 405


# The server's state


async def test_the_state_says_what_holds(serve: Serve) -> None:
    site = await serve(max_queue_depth=7, allow_publish=True, lru_cache_size_gb=1)
    async with site.client.get("/status") as response:
        said = await response.json()
    ServerStatus.model_validate(said)
    assert (said["phase"], said["ready"], said["reason"]) == ("ready", True, None)
    assert said["queue"] == {"depth": 0, "running": 0, "limit": 7}
    assert said["cache"] == {"files": 0, "bytes": 0, "limit_bytes": 1024**3}
    assert said["publish"] is True
    assert said["comfyui_version"] == "0.0.0"
    assert said["journal"] == {"open": True, "damaged": None}
    assert said["webhooks"] == {"due": 0, "oldest_due_s": 0, "failed": 0, "failures": []}


async def test_a_journal_that_was_damaged_is_told(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "journal.sqlite3").write_bytes(b"no database " * 1000)
    site = await serve()
    async with site.client.get("/status") as response:
        said = await response.json()
    ServerStatus.model_validate(said)
    assert said["journal"]["open"] is True
    assert said["journal"]["damaged"].startswith("damaged-")
    assert (tmp_path / "state" / said["journal"]["damaged"]).is_dir()


async def test_messages_out_of_tries_are_listed_without_their_secrets(
    serve: Serve, there: Receiver
) -> None:
    there.answers = [500]
    site = await serve(accepting={"sleep": soon}, prompt_webhook_retries=0)
    assert await run(site, webhook_v2=f"{there.url}?token={SECRET}") == 202
    await eventually(lambda: site.background.deliveries().get("given_up") == 1)
    said: dict[str, Any] = {"webhooks": {"failed": 0}}
    while said["webhooks"]["failed"] != 1:
        said = await site.board.status()
    ServerStatus.model_validate(said)
    (failure,) = said["webhooks"]["failures"]
    assert failure["attempts"] == 1
    assert failure["url"].startswith(there.origin)
    assert failure["run"] == (await listed(site))[0]["run"]
    assert SECRET not in json.dumps(said)


async def test_nothing_of_a_request_but_its_id_is_told(serve: Serve, there: Receiver) -> None:
    site = await serve()
    fields: dict[str, Any] = {
        "webhook_v2": f"{there.url}?token={SECRET}",
        "extra_data": {"api_key_comfy_org": SECRET, "x": SECRET},
        "prompt": graph(SECRET),
    }
    async with followed(site) as stream:
        await stream.until("snapshot")
        assert await run(site, **fields) == 202
        job = await stream.until("job", state="succeeded")
    said = json.dumps([job, await listed(site), await site.board.status()])
    assert SECRET not in said
