from __future__ import annotations

import asyncio
import base64
import time
import uuid
from typing import Any

import aiohttp
import pytest

from comfyui_stateless import __version__
from comfyui_stateless.api.schemas import HealthReply, ReadyReply
from comfyui_stateless.readiness import Phase
from tests.api.conftest import Serve
from tests.fakes import FakeEngine, Gate, Play, eventually, graph

ODD_IDS = [
    "\U0001f600\U0001f1e9\U0001f1ea",
    "quotes \" and ' and `",
    "line\nbreak\r\ttab\0nul",
    "../../slashes\\and\\back",
    "x" * 255,
    "\U0001f600" * 255,
    "rtl \u202e\u200f marks",
    " spaces ",
    "...",
    "%00%2e%2e/{}$&?#;=",
    "\u2028\ufeff\uffff",
]


@pytest.mark.parametrize("caller_id", ODD_IDS, ids=ascii)
async def test_an_id_is_echoed_as_it_came_and_is_safe_in_names_and_headers(
    serve: Serve, caller_id: str
) -> None:
    site = await serve()
    async with site.prompt(id=caller_id) as response:
        assert response.status == 200
        body = await response.json()
        header = response.headers["X-Prompt-Id"]
    assert body["id"] == caller_id
    assert header.isascii()
    assert header.isprintable()
    (name,) = body["filenames"]
    assert name.endswith("_picture_00001_.png")
    assert not {"/", "\\", "\n", "\0", '"'} & set(name)
    assert not name.startswith(".")
    assert len(name.encode()) <= 255


@pytest.mark.parametrize("caller_id", ODD_IDS, ids=ascii)
@pytest.mark.parametrize("accept", ["image/png", "multipart/mixed", "application/zip"])
async def test_any_id_can_be_answered_in_any_form(
    serve: Serve, caller_id: str, accept: str
) -> None:
    site = await serve()
    async with site.prompt(accept, id=caller_id) as response:
        assert response.status == 200
        assert await response.read()


async def test_an_id_that_is_not_given_is_a_new_uuid(serve: Serve) -> None:
    site = await serve()
    ids = set()
    for _ in range(2):
        async with site.prompt() as response:
            ids.add((await response.json())["id"])
    assert len({uuid.UUID(found) for found in ids}) == 2


async def test_twenty_requests_of_one_id_get_each_their_own_output(serve: Serve) -> None:
    async def own_bytes(play: Play) -> None:
        await asyncio.sleep(0)
        play.file("a.bin", play.prompt.graph["1"]["inputs"]["note"].encode())

    async def ask(note: str) -> bytes:
        wanted = graph()
        wanted["1"]["inputs"]["note"] = note
        async with site.prompt(id="same", prompt=wanted) as response:
            return base64.b64decode((await response.json())["images"][0])

    site = await serve(FakeEngine(own_bytes))
    notes = [f"note {number}" for number in range(20)]
    assert await asyncio.gather(*map(ask, notes)) == [note.encode() for note in notes]


async def test_with_prepend_filenames_off_the_id_is_the_prefix(serve: Serve) -> None:
    site = await serve(prepend_filenames=False)
    async with site.prompt(id="a/b", prompt=graph("folder/picture")) as response:
        body = await response.json()
    assert body["filenames"] == ["a_b_00001_.png"]


async def test_higher_priorities_run_first_and_equals_keep_their_order(serve: Serve) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate))
    waiting = []
    for number, priority in enumerate([0, 0, 0, 5, -1, 5, 0]):
        before = len(site.engine.prompts)
        waiting.append(asyncio.ensure_future(site.prompt(id=str(number), priority=priority)))
        await eventually(lambda before=before: len(site.engine.prompts) > before)  # type: ignore[misc]
    gate.is_open.set()
    for response in await asyncio.gather(*waiting):
        response.release()
    # Two are in ComfyUI's hands before the others come.
    assert site.engine.ran == ["0", "1", "3", "5", "2", "6", "4"]


async def interrupt(site: Any, caller_id: str) -> tuple[int, Any]:
    async with site.client.post("/interrupt", json={"id": caller_id}) as response:
        return response.status, await response.json()


async def test_an_interrupt_ends_a_running_job_and_no_other(serve: Serve) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate))
    running = asyncio.ensure_future(site.prompt(id="running"))
    other = asyncio.ensure_future(site.prompt(id="other"))
    await eventually(lambda: site.engine.ran == ["running"])
    assert await interrupt(site, "running") == (200, {"id": "running", "interrupted": "success"})
    async with await running as response:
        assert response.status == 409
        assert (await response.json())["code"] == "interrupted"
    gate.is_open.set()
    async with await other as response:
        assert response.status == 200
    assert site.engine.stopped == ["running"]


async def test_an_interrupt_ends_a_job_that_still_waits(serve: Serve) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate))
    jobs = [asyncio.ensure_future(site.prompt(id=name)) for name in ("a", "b", "c", "d")]
    await eventually(lambda: len(site.engine.prompts) == 4)
    waiting = site.engine.prompts[3].id
    assert await interrupt(site, waiting) == (200, {"id": waiting, "interrupted": "success"})
    gate.is_open.set()
    statuses = []
    for job in jobs:
        async with await job as response:
            statuses.append(response.status)
    assert sorted(statuses) == [200, 200, 200, 409]
    assert waiting not in site.engine.ran


@pytest.mark.parametrize("caller_id", ["never seen", "done", *ODD_IDS], ids=ascii)
async def test_an_interrupt_of_what_does_not_run_is_exactly_this_404(
    serve: Serve, caller_id: str
) -> None:
    site = await serve()
    async with site.prompt(id="done") as response:
        await response.read()
    assert await interrupt(site, caller_id) == (404, {"id": caller_id, "interrupted": "failed"})


async def test_an_interrupt_without_an_id_is_a_400(serve: Serve) -> None:
    site = await serve()
    async with site.client.post("/interrupt", json={}) as response:
        assert response.status == 400
        assert (await response.json())["location"] == "id"


async def hang_up(site: Any) -> None:
    """Post a prompt on a connection of its own and close it once the prompt runs."""
    async with aiohttp.ClientSession() as session:
        request = asyncio.ensure_future(
            session.post(site.client.make_url("/prompt"), json={"prompt": graph(), "id": "gone"})
        )
        await eventually(lambda: "gone" in site.engine.ran)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)


async def test_a_client_that_hangs_up_has_its_job_stopped_within_a_second(serve: Serve) -> None:
    site = await serve(FakeEngine(Gate()))
    await hang_up(site)
    await eventually(lambda: site.engine.stopped == ["gone"], within_s=1)
    await eventually(lambda: not any(parent.exists() for parent in site.engine.workspaces))
    assert site.services.jobs.depth() == 0


async def test_a_client_that_stays_is_not_touched_when_another_hangs_up(serve: Serve) -> None:
    async def hold_the_first(play: Play) -> None:
        if play.prompt.id == "gone":
            await asyncio.Event().wait()
        play.image()

    site = await serve(FakeEngine(hold_the_first))
    gone = asyncio.ensure_future(hang_up(site))
    await eventually(lambda: site.engine.ran == ["gone"])
    async with site.prompt(id="stays") as response:
        assert response.status == 200
    await gone


async def test_without_cancel_on_disconnect_a_job_runs_to_its_end(serve: Serve) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate), cancel_on_disconnect=False)
    await hang_up(site)
    await asyncio.sleep(0.3)
    assert site.engine.stopped == []
    gate.is_open.set()
    await eventually(lambda: site.services.jobs.depth() == 0)
    assert site.engine.stopped == []


async def test_models_are_listed_by_folder(serve: Serve) -> None:
    files = {"checkpoints": ["a.safetensors", "sub/b.ckpt"], "loras": []}
    site = await serve(FakeEngine(model_files=files))
    async with site.client.get("/models") as response:
        assert response.status == 200
        assert await response.json() == files


async def probe(site: Any, path: str) -> tuple[int, Any]:
    async with site.client.get(path) as response:
        return response.status, await response.json()


async def test_a_warm_server_is_healthy_and_ready(serve: Serve) -> None:
    site = await serve()
    assert await probe(site, "/health") == (200, {"version": __version__, "status": "healthy"})
    assert await probe(site, "/ready") == (200, {"version": __version__, "status": "ready"})


async def test_a_server_that_is_not_warm_yet_is_neither(serve: Serve) -> None:
    site = await serve(phase=Phase.WARMING)
    reason = "The warm-up prompt is running."
    status, body = await probe(site, "/health")
    HealthReply.model_validate(body)
    assert (status, body["status"], body["reason"]) == (500, "not healthy", reason)
    status, body = await probe(site, "/ready")
    ReadyReply.model_validate(body)
    assert (status, body["status"], body["reason"]) == (503, "not ready", reason)


async def test_trouble_in_comfyui_makes_a_server_unready_but_not_unhealthy(serve: Serve) -> None:
    site = await serve(FakeEngine(trouble="The worker thread is gone."))
    assert (await probe(site, "/health"))[0] == 200
    status, body = await probe(site, "/ready")
    assert (status, body["reason"]) == (503, "The worker thread is gone.")


@pytest.mark.parametrize(
    ("phase", "trouble", "states"),
    [
        (Phase.WARMING, None, ("warming", "warming")),
        (Phase.READY, None, ("ready", "ready")),
        (Phase.READY, "The worker thread is gone.", ("ready", "trouble")),
        (Phase.DRAINING, None, ("draining", "draining")),
    ],
)
async def test_probes_tell_the_launcher_the_servers_state(
    serve: Serve, phase: Phase, trouble: str | None, states: tuple[str, str]
) -> None:
    site = await serve(FakeEngine(trouble=trouble), phase=phase)
    for path, state in zip(("/health", "/ready"), states, strict=True):
        async with site.client.get(path) as response:
            assert response.headers["Stateless-State"] == state


async def test_a_queue_at_its_limit_makes_a_server_unready_and_takes_prompts_on(
    serve: Serve,
) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate), max_queue_depth=2)
    jobs = [asyncio.ensure_future(site.prompt()) for _ in range(3)]
    await eventually(lambda: site.services.jobs.depth() == 3)
    status, body = await probe(site, "/ready")
    assert (status, body["reason"]) == (503, "The queue holds 3 prompts; MAX_QUEUE_DEPTH is 2.")
    gate.is_open.set()
    for job in jobs:
        async with await job as response:
            assert response.status == 200
    assert (await probe(site, "/ready"))[0] == 200


async def test_every_answer_forbids_caching_and_carries_the_extra_headers(serve: Serve) -> None:
    async def large(play: Play) -> None:
        play.file("large.bin", 1_000_000)

    extra = {"Access-Control-Allow-Origin": "*"}
    site = await serve(FakeEngine(large), headers=extra)
    paths = ["/health", "/nothing", "/docs", "/docs/favicon-32x32.png", "/openapi.json"]
    responses = [await site.client.get(path) for path in paths]
    responses.append(await site.prompt())
    responses.append(await site.prompt("application/octet-stream"))
    for response in responses:
        async with response:
            await response.read()
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["Access-Control-Allow-Origin"] == "*"


async def test_the_same_application_serves_below_a_prefix(serve: Serve) -> None:
    client = (await serve(below="/api/stateless")).client
    async with client.post("/api/stateless/prompt", json={"prompt": graph()}) as response:
        assert response.status == 200
    async with client.get("/api/stateless/nothing") as response:
        assert (response.status, (await response.json())["code"]) == (404, "not_found")
    async with client.get("/elsewhere") as response:
        assert response.content_type == "text/plain"


async def test_the_loop_is_never_held_for_long_while_a_large_reply_is_sent(serve: Serve) -> None:
    async def large(play: Play) -> None:
        play.file("a.bin", 100 * 1024 * 1024)

    site = await serve(FakeEngine(large))
    longest, reading = 0.0, True

    async def watch() -> None:
        nonlocal longest
        while reading:
            # Processor time of this thread: what else the machine does does not count.
            before = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)

    watcher = asyncio.ensure_future(watch())
    async with site.prompt() as response:
        async for _ in response.content.iter_chunked(65536):
            pass
    reading = False
    await watcher
    assert longest < 0.05
