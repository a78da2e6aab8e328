"""Server-sent events of a job, read with a common client."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import httpx
import pytest
from httpx_sse import EventSource, ServerSentEvent, aconnect_sse

from comfyui_stateless.api import events
from comfyui_stateless.errors import ExecutionError, InvalidPrompt
from tests.accepting import loading_engine, loading_graph, messages, png
from tests.api.conftest import Serve, Site
from tests.fakes import FakeEngine, Gate, Play, eventually, graph
from tests.storage.file_server import file_server
from tests.webhooks.receivers import Receiver

EVENTS = "text/event-stream"


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    receiver = await Receiver().start()
    yield receiver
    await receiver.stop()


@asynccontextmanager
async def stream(
    site: Site, method: str = "GET", path: str = "/prompt/a/events", **request: Any
) -> AsyncIterator[EventSource]:
    """Connect to a stream, on a connection of its own."""
    url = str(site.client.make_url(path))
    async with (
        httpx.AsyncClient(timeout=20, trust_env=False) as client,
        aconnect_sse(client, method, url, **request) as source,
    ):
        yield source


@asynccontextmanager
async def posted(site: Site, query: str = "", **fields: Any) -> AsyncIterator[EventSource]:
    """Post a prompt, and connect to its events."""
    sent = {"id": "a", "prompt": graph(), **fields}
    async with stream(site, "POST", f"/prompt{query}", json=sent) as source:
        assert source.response.status_code == 200
        yield source


async def all_of(source: EventSource) -> list[ServerSentEvent]:
    return [event async for event in source.aiter_sse()]


def told(found: list[ServerSentEvent]) -> list[tuple[str, Any]]:
    return [(event.event, event.json()) for event in found]


async def steps(play: Play) -> None:
    """Run as a graph of two nodes does, the first of which is known already."""
    play.event("execution_cached", nodes=["1"])
    play.event("executing", node="2")
    play.event("progress", node="2", value=1, max=4)
    play.image()
    play.text("seen")


# What is told


async def test_a_post_that_takes_events_is_told_all_that_happens_and_the_reply_at_the_end(
    serve: Serve,
) -> None:
    site = await serve(FakeEngine(steps))
    async with posted(site, priority=3) as source:
        assert source.response.headers["Content-Type"] == EVENTS
        assert source.response.headers["Cache-Control"] == "no-store"
        found = told(await all_of(source))
    async with site.prompt(id="a", priority=3) as response:
        reply = await response.json()
    output = reply["outputs"][0]
    (name, last) = found.pop()
    assert found == [
        ("started", {}),
        ("node", {"node_id": "1", "class_type": "EmptyImage", "cached": True}),
        ("node", {"node_id": "2", "class_type": "SaveImage", "cached": False}),
        ("progress", {"node": "2", "node_id": "2", "value": 1, "max": 4, "overall": 0.625}),
        ("output", output),
    ]
    assert name == "succeeded"
    assert {**last, "stats": None} == {**reply, "stats": None}
    assert last["stats"].keys() == reply["stats"].keys()


async def test_an_output_is_told_of_as_soon_as_its_node_is_done(serve: Serve) -> None:
    gate = Gate()

    async def early(play: Play) -> None:
        play.image("first_00001_.png")
        play.early_file("second.bin", b"content")
        await gate(play)

    site = await serve(FakeEngine(early))
    async with posted(site) as source:
        outputs = []
        async for event in source.aiter_sse():
            if event.event == "output":
                outputs.append(event.json()["filename"])
            if len(outputs) == 2:
                assert not gate.is_open.is_set()
                gate.is_open.set()
    assert outputs == ["first_00001_.png", "second.bin", "a_picture_00001_.png"]


async def test_jobs_that_wait_are_told_how_many_are_before_them(serve: Serve) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate))
    before = [asyncio.ensure_future(site.prompt(id=f"{number}")) for number in range(3)]
    await eventually(lambda: site.services.jobs.depth() == 3)
    async with posted(site) as source:
        reading = source.aiter_sse()
        first = await reading.__anext__()
        assert (first.event, first.json()) == ("queued", {"position": 3})
        gate.is_open.set()
        assert [event.event async for event in reading] == ["started", "output", "succeeded"]
    for task in before:
        (await task).release()


async def test_what_is_fetched_is_told_without_its_secrets(serve: Serve) -> None:
    site = await serve(loading_engine())
    image = png(1, 200)
    with file_server() as origin:
        host = origin.add("/a.png", image).removeprefix("http://")
        sent = loading_graph(f"http://user:geheim@{host}?sig=geheim")
        async with posted(site, prompt=sent) as source:
            found = await all_of(source)
    assert told(found)[0] == (
        "preparing",
        {
            "location": "prompt.load-0.inputs.image",
            "url": f"http://{host}?\u2026",
            "bytes": len(image),
            "total": len(image),
        },
    )
    assert "geheim" not in "".join(event.data for event in found)


@pytest.mark.parametrize("is_accepted", [True, False], ids=["accepted", "synchronous"])
async def test_a_job_that_fails_ends_in_the_shape_of_errors(
    serve: Serve, there: Receiver, is_accepted: bool
) -> None:
    gate = Gate()

    async def fail(play: Play) -> None:
        await gate.is_open.wait()
        raise ExecutionError("No.", location="prompt.1", details={"node_id": "1"})

    site = await serve(FakeEngine(fail))
    fields = {"webhook_v2": there.url} if is_accepted else {}
    asking = asyncio.ensure_future(site.prompt(id="a", **fields))
    await eventually(lambda: bool(site.engine.ran))
    async with stream(site) as source:
        gate.is_open.set()
        found = told(await all_of(source))
    assert found[-1] == (
        "failed",
        {
            "error": "No.",
            "code": "execution_error",
            "location": "prompt.1",
            "details": {"node_id": "1"},
        },
    )
    (await asking).release()


async def test_a_post_that_is_wrong_is_refused_before_the_stream_or_fails_in_it(
    serve: Serve,
) -> None:
    site = await serve(FakeEngine(invalid=InvalidPrompt("No.", location="prompt")))
    headers = {"Accept": EVENTS}
    async with site.client.post("/prompt", data=b"{", headers=headers) as response:
        assert (response.status, response.content_type) == (400, "application/json")
    async with posted(site) as source:
        found = told(await all_of(source))
    assert found == [
        (
            "failed",
            {"error": "No.", "code": "invalid_prompt", "location": "prompt", "details": {}},
        )
    ]


async def test_an_accepted_job_ends_in_what_its_webhook_is_told(
    serve: Serve, there: Receiver
) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate))
    async with site.prompt(id="a", webhook_v2=there.url) as response:
        assert response.status == 202
    async with stream(site) as source:
        gate.is_open.set()
        name, last = told(await all_of(source))[-1]
    await eventually(lambda: bool(there.received))
    (message,) = messages(there)
    assert name == "succeeded"
    assert last == {k: v for k, v in message.items() if k not in ("type", "timestamp")}


async def test_a_synchronous_job_ends_for_those_who_only_follow_it_in_its_metadata(
    serve: Serve,
) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate))
    asking = asyncio.ensure_future(site.prompt(id="a"))
    await eventually(lambda: bool(site.engine.ran))
    async with stream(site) as source:
        gate.is_open.set()
        name, last = told(await all_of(source))[-1]
    async with await asking as response:
        reply = await response.json()
    assert name == "succeeded"
    assert last["filenames"] == reply["filenames"]
    assert last["stats"] == reply["stats"]


async def test_a_job_whose_outputs_were_not_kept_has_succeeded_all_the_same(
    serve: Serve, there: Receiver
) -> None:
    async def large(play: Play) -> None:
        play.file("large.bin", 100_000)

    site = await serve(FakeEngine(large), result_max_bytes=50_000)
    async with site.prompt(id="a", webhook_v2=there.url) as response:
        assert response.status == 202
    await eventually(lambda: bool(there.received))
    async with stream(site) as source:
        name, last = told(await all_of(source))[-1]
    assert name == "succeeded"
    assert last["state"] == "succeeded"
    assert "RESULT_MAX_BYTES" in last["gone"]


async def test_a_large_reply_comes_whole(serve: Serve) -> None:
    content = b"0123456789" * 500_000

    async def large(play: Play) -> None:
        play.file("large.bin", content)

    site = await serve(FakeEngine(large))
    async with posted(site) as source:
        last = (await all_of(source))[-1]
    assert base64.b64decode(last.json()["images"][0]) == content


async def test_previews_are_only_for_those_who_ask_for_them(serve: Serve) -> None:
    joined = asyncio.Event()

    async def shows(play: Play) -> None:
        await joined.wait()
        play.event("preview", node="1", media_type="image/jpeg", image=b"\xff\xd8jpeg")
        play.image()

    site = await serve(FakeEngine(shows))
    async with posted(site) as without, stream(site, path="/prompt/a/events?previews=true") as gets:
        await eventually(lambda: bool(site.engine.ran))
        job = site.services.jobs.find("a")
        await eventually(lambda: job is not None and job.wants_previews)
        joined.set()
        found = [dict(told(await all_of(source))) for source in (without, gets)]
    assert "preview" not in found[0]
    assert found[1]["preview"] == {
        "node_id": "1",
        "media_type": "image/jpeg",
        "image": base64.b64encode(b"\xff\xd8jpeg").decode(),
    }


async def test_a_post_may_ask_for_previews_too(serve: Serve) -> None:
    async def shows(play: Play) -> None:
        play.event("preview", node="1", media_type="image/jpeg", image=b"jpeg")
        play.image()

    site = await serve(FakeEngine(shows))
    async with posted(site, "?previews=true") as source:
        assert "preview" in dict(told(await all_of(source)))
    async with site.prompt(id="b") as response:
        await response.read()
    job = site.services.jobs.find("b")
    assert job is not None
    assert [h.name for h in job.timeline.after(0) if h.name == "preview"] == []


async def test_a_comment_comes_when_nothing_has_happened_for_a_while(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "IDLE_S", 0.02)
    gate = Gate()
    site = await serve(FakeEngine(gate))
    async with posted(site) as source:
        lines = source.response.aiter_lines()
        comments = 0
        async for line in lines:
            comments += line.startswith(":")
            if comments == 3:
                break
        gate.is_open.set()
        rest = [line async for line in lines]
    assert "event: succeeded" in rest


# Coming back


async def many_steps(play: Play) -> None:
    for number in range(20):
        play.event("executing", node=str(number))
        await asyncio.sleep(0.002)
    play.image()


async def test_a_client_that_breaks_off_and_comes_back_misses_nothing_and_hears_nothing_twice(
    serve: Serve,
) -> None:
    site = await serve(FakeEngine(many_steps))
    asking = asyncio.ensure_future(site.prompt(id="a"))
    await eventually(lambda: site.services.jobs.find("a") is not None)
    heard: list[ServerSentEvent] = []
    connections = 0
    while not heard or heard[-1].event != "succeeded":
        last = heard[-1].id if heard else ""
        connections += 1
        assert connections < 50
        async with stream(site, headers={"Last-Event-ID": last}) as source:
            async for event in source.aiter_sse():
                heard.append(event)
                if len(heard) % 3 == 0:
                    break
    (await asking).release()
    job = site.services.jobs.find("a")
    assert job is not None
    assert connections > 5
    assert [event.event for event in heard] == [h.name for h in job.timeline.after(0)]
    assert len({event.id for event in heard}) == len(heard)
    assert [e.json()["node_id"] for e in heard if e.event == "node"] == [
        str(number) for number in range(20)
    ]


async def test_a_client_that_has_heard_the_end_is_told_to_come_back_no_more(
    serve: Serve, there: Receiver
) -> None:
    """Which is what browsers do, unless they are answered 204."""
    site = await serve()
    async with site.prompt(id="a", webhook_v2=there.url) as response:
        assert response.status == 202
    await eventually(lambda: bool(there.received))
    async with stream(site) as source:
        last = (await all_of(source))[-1]
    async with stream(site, headers={"Last-Event-ID": last.id}) as source:
        assert source.response.status_code == 204
    await site.stop()
    again = await serve()
    async with stream(again, headers={"Last-Event-ID": last.id}) as source:
        assert source.response.status_code == 204


async def test_a_client_that_comes_back_after_a_restart_hears_the_end(
    serve: Serve, there: Receiver
) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate))
    async with site.prompt(id="a", webhook_v2=there.url) as response:
        assert response.status == 202
    async with stream(site) as source:
        first = await source.aiter_sse().__anext__()
    gate.is_open.set()
    await eventually(lambda: bool(there.received))
    await site.stop()
    again = await serve()
    async with stream(again, headers={"Last-Event-ID": first.id}) as source:
        found = await all_of(source)
    assert [event.event for event in found] == ["succeeded"]
    assert found[0].json()["images"]


async def test_an_id_of_another_process_s_timeline_is_none_of_this_one_s(
    serve: Serve, there: Receiver
) -> None:
    site = await serve(FakeEngine(Gate()))
    async with site.prompt(id="a", webhook_v2=there.url) as response:
        assert response.status == 202
    async with stream(site) as source:
        first = await source.aiter_sse().__anext__()
    await site.stop()
    gate = Gate()
    again = await serve(FakeEngine(gate))
    await again.background.resume()
    await eventually(lambda: bool(again.engine.ran))
    async with stream(again, headers={"Last-Event-ID": first.id}) as source:
        gate.is_open.set()
        found = await all_of(source)
    assert [event.event for event in found] == ["started", "output", "succeeded"]


@pytest.mark.parametrize("last", ["17", "no id", "-1", "a" * 1000, "\u00e9"])
async def test_an_id_that_is_none_tells_all(serve: Serve, last: str) -> None:
    site = await serve()
    async with site.prompt(id="a") as response:
        await response.read()
    async with stream(site, headers={"Last-Event-ID": last.encode()}) as source:
        found = await all_of(source)
    assert [event.event for event in found][-1] == "succeeded"


async def test_a_new_post_hears_all_whatever_it_has_heard_of_others(serve: Serve) -> None:
    site = await serve(FakeEngine(steps))
    async with posted(site) as source:
        first = await all_of(source)
    sent = {"id": "a", "prompt": graph()}
    headers = {"Last-Event-ID": first[-2].id}
    async with stream(site, "POST", "/prompt", json=sent, headers=headers) as source:
        second = await all_of(source)
    assert [event.event for event in second] == [event.event for event in first]


async def test_a_post_under_a_key_can_be_broken_off_and_taken_up(serve: Serve) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate))
    sent = {"id": "a", "prompt": graph()}
    headers = {"Idempotency-Key": "key"}
    async with AsyncExitStack() as stack:
        # Another caller keeps it going.
        _ = await stack.enter_async_context(
            stream(site, "POST", "/prompt", json=sent, headers=headers)
        )
        async with stream(site, "POST", "/prompt", json=sent, headers=headers) as source:
            first = await source.aiter_sse().__anext__()
        headers = {**headers, "Last-Event-ID": first.id}
        async with stream(site, "POST", "/prompt", json=sent, headers=headers) as source:
            gate.is_open.set()
            rest = await all_of(source)
    assert [first.event, *(event.event for event in rest)] == ["started", "output", "succeeded"]
    assert site.engine.ran == ["a"]


# Hanging up


async def test_one_who_only_follows_stops_nothing_by_hanging_up(serve: Serve) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate))
    asking = asyncio.ensure_future(site.prompt(id="a"))
    await eventually(lambda: bool(site.engine.ran))
    async with stream(site) as source:
        await source.aiter_sse().__anext__()
    await asyncio.sleep(0.3)
    assert site.engine.stopped == []
    gate.is_open.set()
    async with await asking as response:
        assert response.status == 200


async def test_one_who_has_posted_stops_his_job_by_hanging_up_though_nothing_happens(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    site = await serve(FakeEngine(Gate()))
    async with posted(site) as source:
        await source.aiter_sse().__anext__()
    await eventually(lambda: site.engine.stopped == ["a"], within_s=1)
    await eventually(lambda: not any(folder.exists() for folder in site.engine.workspaces))
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_without_cancel_on_disconnect_he_does_not(serve: Serve) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate), cancel_on_disconnect=False)
    async with posted(site) as source:
        await source.aiter_sse().__anext__()
    await asyncio.sleep(0.3)
    assert site.engine.stopped == []
    gate.is_open.set()
    job = site.services.jobs.find("a")
    await eventually(lambda: job is not None and job.state.is_terminal)
    assert job is not None
    assert job.state.value == "succeeded"


async def test_a_reader_who_does_not_read_delays_nobody_and_holds_little(serve: Serve) -> None:
    preview = b"x" * 200_000

    async def shows(play: Play) -> None:
        await goes_on.wait()
        for _ in range(500):
            play.event("preview", node="1", media_type="image/jpeg", image=preview)
            await asyncio.sleep(0)
        play.image()

    goes_on = asyncio.Event()
    site = await serve(FakeEngine(shows))
    asking = asyncio.ensure_future(site.prompt(id="a"))
    await eventually(lambda: bool(site.engine.ran))
    job = site.services.jobs.find("a")
    assert job is not None
    server = site.client.server
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((server.host, server.port))
        deaf.sendall(b"GET /prompt/a/events?previews=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        await eventually(lambda: job.wants_previews)
        goes_on.set()
        async with await asking as response:
            assert response.status == 200
        assert len(job.timeline.after(0)) <= 4
        held = [h for h in job.timeline.after(0) if h.name == "preview"]
        assert len(held) == 1
    await eventually(lambda: not job.timeline.is_followed)


async def test_a_follower_of_nothing_is_a_404(serve: Serve) -> None:
    site = await serve()
    async with site.client.get("/prompt/nobody/events") as response:
        assert response.status == 404
        assert (await response.json())["code"] == "not_found"


async def test_fifty_followers_hear_the_same(serve: Serve) -> None:
    gate = Gate()

    async def script(play: Play) -> None:
        await gate.is_open.wait()
        await many_steps(play)

    site = await serve(FakeEngine(script))
    asking = asyncio.ensure_future(site.prompt(id="a"))
    await eventually(lambda: bool(site.engine.ran))
    job = site.services.jobs.find("a")
    assert job is not None

    async def read(session: aiohttp.ClientSession) -> list[str]:
        async with session.get(site.client.make_url("/prompt/a/events")) as response:
            text = await response.text()
        return [line for line in text.splitlines() if line.startswith("event:")]

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        reading = [asyncio.ensure_future(read(session)) for _ in range(50)]
        await eventually(lambda: len(job.timeline._listeners) == 50)
        gate.is_open.set()
        heard = await asyncio.gather(*reading)
    (await asking).release()
    assert heard[0].count("event: node") == 20
    assert all(each == heard[0] for each in heard)


async def test_data_is_one_line_of_json_whatever_it_holds(serve: Serve) -> None:
    async def text(play: Play) -> None:
        play.text("line\nbreak\r\n\u2028\u2029 data: x\n\nevent: failed\n\n")
        play.image()

    site = await serve(FakeEngine(text))
    async with posted(site, id="a\nid: 3\n\n") as source:
        last = (await all_of(source))[-1]
    said = json.loads(last.data)
    assert said["texts"][0]["text"].startswith("line\nbreak\r\n\u2028")
    assert said["id"] == "a\nid: 3\n\n"
