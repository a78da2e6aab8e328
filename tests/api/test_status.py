"""GET /prompt/{id}."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from yarl import URL

from comfyui_stateless.api.schemas import ErrorReply, StatusReply
from comfyui_stateless.errors import ExecutionError
from comfyui_stateless.jobs import MAX_RECENT
from tests.accepting import loading_engine, loading_graph
from tests.api.conftest import Serve, Site
from tests.fakes import FakeEngine, Gate, Play, eventually, graph
from tests.uploads.receiver import receiving
from tests.webhooks.receivers import Receiver, never


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    receiver = await Receiver().start()
    yield receiver
    await receiver.stop()


async def status(site: Site, caller_id: str = "a") -> tuple[int, Any]:
    url = URL(f"/prompt/{quote(caller_id, safe='')}", encoded=True)
    async with site.client.get(url) as response:
        body = await response.json()
        model = StatusReply if response.status == 200 else ErrorReply
        model.model_validate(body)
        return response.status, body


async def becomes(site: Site, state: str, caller_id: str = "a") -> Any:
    """Wait until a job has come to a state; return what is said of it."""
    deadline = asyncio.get_running_loop().time() + 5
    while (found := (await status(site, caller_id))[1]).get("state") != state:
        assert asyncio.get_running_loop().time() < deadline, found
        await asyncio.sleep(0.005)
    return found


async def accept(site: Site, caller_id: str = "a", **fields: Any) -> None:
    async with site.prompt(id=caller_id, **fields) as response:
        assert response.status == 202, await response.text()


async def test_an_unknown_id_is_a_404(serve: Serve) -> None:
    site = await serve()
    found, body = await status(site)
    assert (found, body["code"]) == (404, "not_found")


async def test_a_job_whose_inputs_are_fetched_is_preparing(serve: Serve, there: Receiver) -> None:
    there.answers = [never]
    site = await serve(loading_engine())
    sent = loading_graph(f"{there.origin}/a.png")
    asking = asyncio.ensure_future(site.prompt(id="a", prompt=sent))
    assert await becomes(site, "preparing") == {"id": "a", "state": "preparing", "progress": 0.0}
    asking.cancel()


async def test_jobs_that_wait_say_how_many_are_before_them(serve: Serve, there: Receiver) -> None:
    site = await serve(FakeEngine(Gate()))
    for name in ("a", "b", "c", "d"):
        await accept(site, name, webhook_v2=there.url)
    await accept(site, "urgent", webhook_v2=there.url, priority=1)
    await becomes(site, "running")
    waiting = {name: (await status(site, name))[1] for name in ("b", "c", "d", "urgent")}
    assert {said["state"] for said in waiting.values()} == {"queued"}
    assert {name: said["position"] for name, said in waiting.items()} == {
        "urgent": 1, "b": 2, "c": 3, "d": 4,
    }  # fmt: skip


async def test_a_job_that_runs_says_which_node_runs_and_how_far_it_is(serve: Serve) -> None:
    goes_on = asyncio.Event()

    async def steps(play: Play) -> None:
        play.event("executing", node="1")
        play.event("progress", node="1", value=3, max=4)
        await goes_on.wait()
        play.event("executing", node="2")
        await asyncio.Event().wait()

    site = await serve(FakeEngine(steps))
    asking = asyncio.ensure_future(site.prompt(id="a"))
    said = await becomes(site, "running")
    assert said == {"id": "a", "state": "running", "progress": 0.375, "node_id": "1"}
    goes_on.set()
    await eventually(lambda: site.services.jobs.find("a").progress.node_id == "2")  # type: ignore[union-attr]
    assert (await status(site))[1]["progress"] == 0.5
    asking.cancel()


async def test_a_job_whose_outputs_are_uploaded_is_delivering(serve: Serve) -> None:
    with receiving() as storage:
        hold = storage.hold("/out/a_picture_00001_.png")
        site = await serve()
        await accept(site, http_upload={"url_prefix": f"{storage.origin}/out"})
        said = await becomes(site, "delivering")
        assert said == {"id": "a", "state": "delivering", "progress": 1.0}
        hold.released.set()
        await becomes(site, "succeeded")


async def test_a_job_that_was_accepted_and_is_done_has_its_whole_reply(
    serve: Serve, there: Receiver
) -> None:
    async def outputs(play: Play) -> None:
        play.image()
        play.file("large.bin", b"0123456789" * 20_000)
        play.text("seen")

    site = await serve(FakeEngine(outputs))
    await accept(site, webhook_v2=there.url, priority=3)
    said = await becomes(site, "succeeded")
    await eventually(lambda: bool(there.received))
    message = json.loads(there.received[0].body)
    assert (said.pop("state"), said.pop("progress")) == ("succeeded", 1.0)
    assert said == {k: v for k, v in message.items() if k not in ("type", "timestamp")}
    assert base64.b64decode(said["images"][1]) == b"0123456789" * 20_000


async def test_a_job_whose_outputs_were_uploaded_has_their_urls(serve: Serve) -> None:
    with receiving() as storage:
        site = await serve()
        await accept(site, http_upload={"url_prefix": f"{storage.origin}/out"})
        said = await becomes(site, "succeeded")
    assert said["images"] == [f"{storage.origin}/out/a_picture_00001_.png"]
    assert said["outputs"][0]["media_type"] == "image/png"


async def test_a_synchronous_job_that_is_done_has_all_but_its_outputs(serve: Serve) -> None:
    site = await serve()
    async with site.prompt(id="a") as response:
        reply = await response.json()
    found, said = await status(site)
    assert found == 200
    assert said == {
        "id": "a",
        "state": "succeeded",
        "progress": 1.0,
        **{name: reply[name] for name in ("filenames", "outputs", "texts", "stats")},
    }


async def test_a_synchronous_job_with_a_key_has_its_outputs_too(serve: Serve) -> None:
    site = await serve()
    sent = {"id": "a", "prompt": graph()}
    headers = {"Idempotency-Key": "key"}
    async with site.client.post("/prompt", json=sent, headers=headers) as response:
        reply = await response.json()
    said = (await status(site))[1]
    assert said == {"state": "succeeded", "progress": 1.0, **reply}


async def test_a_synchronous_upload_s_urls_stay_readable(serve: Serve) -> None:
    with receiving() as storage:
        site = await serve()
        target = {"url_prefix": f"{storage.origin}/out", "async": False}
        async with site.prompt(id="a", http_upload=target) as response:
            assert response.status == 200
        assert (await status(site))[1]["images"] == [f"{storage.origin}/out/a_picture_00001_.png"]


@pytest.mark.parametrize("is_accepted", [True, False], ids=["accepted", "synchronous"])
async def test_a_job_that_has_failed_says_why_as_its_reply_did(
    serve: Serve, there: Receiver, is_accepted: bool
) -> None:
    async def fail(play: Play) -> None:
        play.event("executing", node="1")
        raise ExecutionError("No.", location="prompt.1", details={"node_id": "1"})

    site = await serve(FakeEngine(fail))
    fields = {"webhook_v2": there.url} if is_accepted else {}
    async with site.prompt(id="a", **fields) as response:
        await response.read()
    said = await becomes(site, "failed")
    assert said["error"] == {
        "error": "No.",
        "code": "execution_error",
        "location": "prompt.1",
        "details": {"node_id": "1"},
    }
    assert "images" not in said


@pytest.mark.parametrize("is_accepted", [True, False], ids=["accepted", "synchronous"])
async def test_a_job_that_was_interrupted_says_so(
    serve: Serve, there: Receiver, is_accepted: bool
) -> None:
    site = await serve(FakeEngine(Gate()))
    fields = {"webhook_v2": there.url} if is_accepted else {}
    asking = asyncio.ensure_future(site.prompt(id="a", **fields))
    await becomes(site, "running")
    assert site.services.jobs.interrupt("a")
    said = await becomes(site, "interrupted")
    assert said["error"]["code"] == "interrupted"
    (await asking).release()


async def test_where_results_are_not_kept_an_ended_job_is_unknown(
    serve: Serve, there: Receiver
) -> None:
    site = await serve(result_ttl_s=0)
    async with site.prompt(id="sync") as response:
        assert response.status == 200
    await accept(site, "async", webhook_v2=there.url)
    await eventually(lambda: bool(there.received))
    await eventually(lambda: not site.services.jobs._live)
    for name in ("sync", "async"):
        assert (await status(site, name))[0] == 404


async def test_a_result_is_forgotten_when_it_is_old(serve: Serve, there: Receiver) -> None:
    site = await serve(result_ttl_s=0.2)
    await accept(site, webhook_v2=there.url)
    await becomes(site, "succeeded")
    deadline = asyncio.get_running_loop().time() + 5
    while (await status(site))[0] == 200:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)
    assert (await status(site))[0] == 404


async def test_outputs_for_which_there_is_no_room_are_gone(serve: Serve, there: Receiver) -> None:
    async def large(play: Play) -> None:
        play.file("large.bin", 100_000)

    site = await serve(FakeEngine(large), result_max_bytes=50_000)
    await accept(site, webhook_v2=there.url)
    await eventually(lambda: bool(there.received))
    found, body = await status(site)
    assert (found, body["code"]) == (410, "gone")


async def test_the_newest_job_of_an_id_is_meant(serve: Serve) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate))
    old = asyncio.ensure_future(site.prompt(id="a", timeout_s=60))
    await becomes(site, "running")
    new = asyncio.ensure_future(site.prompt(id="a", timeout_s=0.3))
    await becomes(site, "queued")
    async with await new as response:
        assert response.status == 504
    assert (await status(site))[1]["state"] == "failed"
    gate.is_open.set()
    (await old).release()
    assert (await status(site))[1]["error"]["code"] == "timeout"


async def test_what_ended_before_a_restart_is_known_after_it(serve: Serve, there: Receiver) -> None:
    site = await serve()
    await accept(site, webhook_v2=there.url)
    before = await becomes(site, "succeeded")
    await site.stop()
    again = await serve()
    assert await status(again) == (200, before)


async def test_an_accepted_job_is_known_before_a_new_process_takes_it_up(
    serve: Serve, there: Receiver
) -> None:
    site = await serve(FakeEngine(Gate()))
    await accept(site, webhook_v2=there.url)
    await site.stop()
    again = await serve()
    assert await status(again) == (200, {"id": "a", "state": "queued", "progress": 0.0})
    async with again.client.get("/prompt/a/events") as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
    await again.background.resume()
    await becomes(again, "succeeded")


async def test_while_the_journal_is_not_open_a_job_is_not_said_to_be_unknown(
    serve: Serve,
) -> None:
    site = await serve()
    await site.background.close()
    found, body = await status(site)
    assert (found, body["code"]) == (503, "unavailable")


ODD_IDS = [
    "a/b/c",
    "../../etc/passwd",
    "a%2Fb",
    "100%",
    "%",
    "%zz",
    "a?b=c#d",
    "a b+c",
    "\u00fcnic\u00f6d\u00e9 \u65e5\u672c",
    "\U0001f600" * 10,
    "...",
    "a\\b",
    "a;b,c",
    "line\nbreak",
    "{id}",
    "events",
    "a/events",
    "x" * 255,
    "/",
    "//a",
    "a/",
]


@pytest.mark.parametrize("caller_id", ODD_IDS, ids=ascii)
async def test_any_id_is_found_when_it_is_percent_encoded(
    serve: Serve, there: Receiver, caller_id: str
) -> None:
    site = await serve()
    await accept(site, caller_id, webhook_v2=there.url)
    said = await becomes(site, "succeeded", caller_id)
    assert said["id"] == caller_id
    url = URL(f"/prompt/{quote(caller_id, safe='')}/events", encoded=True)
    async with site.client.get(url) as response:
        assert response.status == 200
        assert b"event: succeeded" in await response.read()


async def test_ended_jobs_are_bounded(serve: Serve) -> None:
    site = await serve()
    jobs = site.services.jobs
    for _ in range(3):
        async with site.prompt() as response:
            await response.read()
    (first, *_) = jobs._recent.values()
    for number in range(MAX_RECENT):
        jobs._recent[f"more-{number}"] = first
    async with site.prompt(id="last") as response:
        await response.read()
    assert len(jobs._recent) == MAX_RECENT
    assert (await status(site, "last"))[0] == 200


async def test_the_status_needs_a_key_where_the_server_has_one(serve: Serve) -> None:
    site = await serve(api_keys="secret")
    for path in ("/prompt/a", "/prompt/a/events"):
        async with site.client.get(path) as response:
            assert response.status == 401
