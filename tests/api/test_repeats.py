"""Requests that are sent again under one Idempotency-Key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from comfyui_stateless.errors import ExecutionError
from tests.accepting import loading_engine, loading_graph, messages, png
from tests.api.conftest import Serve, Site
from tests.fakes import FakeEngine, Gate, Play, eventually, graph
from tests.webhooks.receivers import Receiver


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    receiver = await Receiver().start()
    yield receiver
    await receiver.stop()


def body_of(**fields: Any) -> bytes:
    return json.dumps({"prompt": graph(), **fields}).encode()


async def post(
    site: Site, body: bytes, key: str = "key", session: Any = None, **headers: str
) -> tuple[int, bytes]:
    url = site.client.make_url("/prompt")
    headers = {"Idempotency-Key": key, "Content-Type": "application/json", **headers}
    async with (session or site.client.session).post(url, data=body, headers=headers) as response:
        return response.status, await response.read()


async def outputs(play: Play) -> None:
    play.image()
    play.file("large.bin", b"0123456789" * 20_000)
    play.text("seen")


async def test_a_repeat_gets_the_same_answer_byte_by_byte_and_runs_nothing(serve: Serve) -> None:
    site = await serve(FakeEngine(outputs))
    first = await post(site, body_of())
    for _ in range(2):
        assert await post(site, body_of()) == first
    assert first[0] == 200
    assert len(json.loads(first[1])["images"]) == 2
    assert len(site.engine.ran) == 1


async def test_a_repeat_may_take_another_form(serve: Serve) -> None:
    site = await serve()
    _, first = await post(site, body_of(id="a"))
    status, image = await post(site, body_of(id="a"), Accept="image/png")
    assert (status, image[:4]) == (200, b"\x89PNG")
    assert json.loads(first)["outputs"][0]["size_bytes"] == len(image)
    assert site.engine.ran == ["a"]


async def test_other_keys_and_no_key_run_anew(serve: Serve) -> None:
    site = await serve()
    for key in ("key", "KEY", "another"):
        await post(site, body_of(id=key), key)
    async with site.prompt(id="none") as response:
        assert response.status == 200
    assert site.engine.ran == ["key", "KEY", "another", "none"]


async def test_another_body_under_a_key_is_a_422(serve: Serve) -> None:
    site = await serve()
    await post(site, body_of(id="a"))
    status, answer = await post(site, body_of(id="b"))
    assert (status, json.loads(answer)["code"]) == (422, "idempotency_key_reused")
    assert site.engine.ran == ["a"]


async def test_another_file_beside_the_same_request_is_another_body(serve: Serve) -> None:
    async def send(content: bytes) -> int:
        form = aiohttp.FormData()
        sent = {"id": "a", "prompt": loading_graph("upload://part")}
        form.add_field("request", json.dumps(sent), content_type="application/json")
        form.add_field("part", content, filename="a.png")
        headers = {"Idempotency-Key": "key"}
        async with site.client.post("/prompt", data=form, headers=headers) as response:
            return response.status

    site = await serve(loading_engine())
    assert [await send(png(1)), await send(png(1))] == [200, 200]
    assert len(site.engine.ran) == 1
    assert await send(png(2)) == 422


@pytest.mark.parametrize("wrong", [{"timeout_s": -1}, {"prompt": loading_graph("nothing.png")}])
async def test_a_key_is_free_again_after_a_request_that_was_wrong(
    serve: Serve, wrong: dict[str, Any]
) -> None:
    site = await serve(loading_engine())
    assert (await post(site, body_of(**wrong)))[0] == 400
    assert (await post(site, body_of(**wrong, webhook_v2="http://127.0.0.1:9/")))[0] == 400
    assert (await post(site, body_of()))[0] == 200


async def test_a_failure_is_answered_again(serve: Serve) -> None:
    async def fail(play: Play) -> None:
        raise ExecutionError("No.", details={"node_id": "1"})

    site = await serve(FakeEngine(fail))
    first = await post(site, body_of(id="a"))
    assert (first[0], json.loads(first[1])["code"]) == (500, "execution_error")
    assert await post(site, body_of(id="a")) == first
    assert site.engine.ran == ["a"]


async def test_a_result_that_there_was_no_room_to_keep_is_gone(serve: Serve) -> None:
    site = await serve(FakeEngine(outputs), result_max_bytes=50_000)
    assert (await post(site, body_of(id="a")))[0] == 200
    status, answer = await post(site, body_of(id="a"))
    assert (status, json.loads(answer)["code"]) == (410, "gone")
    assert site.engine.ran == ["a"]


async def test_where_no_results_are_kept_a_key_holds_only_while_its_job_runs(serve: Serve) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate), result_ttl_s=0)
    asking = [asyncio.ensure_future(post(site, body_of(id="a"))) for _ in range(2)]
    await eventually(lambda: bool(site.engine.ran))
    gate.is_open.set()
    first, second = await asyncio.gather(*asking)
    assert first == second
    await post(site, body_of(id="a"))
    assert site.engine.ran == ["a", "a"]


async def test_two_at_the_same_moment_run_once_and_get_the_same(serve: Serve) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate))
    asking = [asyncio.ensure_future(post(site, body_of())) for _ in range(5)]
    await eventually(lambda: bool(site.engine.ran))
    gate.is_open.set()
    answers = await asyncio.gather(*asking)
    assert answers[0][0] == 200
    assert set(answers) == {answers[0]}
    assert len(site.engine.ran) == 1
    await eventually(lambda: not any(folder.exists() for folder in site.engine.workspaces))


class Callers:
    """Clients on connections of their own, that can hang up."""

    def __init__(self, site: Site, body: bytes) -> None:
        self._site = site
        self._body = body
        self.tasks: list[asyncio.Task[tuple[int, bytes]]] = []
        self._sessions: list[aiohttp.ClientSession] = []

    async def call(self) -> None:
        """Have one more client ask, and wait until it has joined the run."""
        self._sessions.append(aiohttp.ClientSession())
        asking = post(self._site, self._body, session=self._sessions[-1])
        self.tasks.append(asyncio.ensure_future(asking))
        await eventually(lambda: self.waiting() == len(self.tasks))

    def waiting(self) -> int:
        live = self._site.background.idempotency._live.get("key")
        if live is None or not live.answer.done():
            return 0
        answer = live.answer.result()
        return len(answer._waiting)  # type: ignore[union-attr]

    async def hang_up(self, number: int) -> None:
        self.tasks[number].cancel()
        await asyncio.gather(self.tasks[number], return_exceptions=True)
        await self._sessions[number].close()

    async def close(self) -> None:
        for session in self._sessions:
            await session.close()


async def test_one_who_hangs_up_does_not_stop_the_others(serve: Serve) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate))
    callers = Callers(site, body_of(id="a"))
    for _ in range(3):
        await callers.call()
    await callers.hang_up(0)
    await callers.hang_up(2)
    await eventually(lambda: callers.waiting() == 1)
    assert site.engine.stopped == []
    gate.is_open.set()
    assert (await callers.tasks[1])[0] == 200
    await callers.close()
    assert site.engine.ran == ["a"]


async def test_the_last_to_hang_up_stops_the_job_and_the_key_is_free(serve: Serve) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate))
    callers = Callers(site, body_of(id="a"))
    for _ in range(2):
        await callers.call()
    for number in range(2):
        await callers.hang_up(number)
    await eventually(lambda: site.engine.stopped == ["a"])
    gate.is_open.set()
    assert (await post(site, body_of(id="b")))[0] == 200
    await callers.close()


async def test_a_client_that_gives_up_and_asks_again_at_once_gets_its_outputs(serve: Serve) -> None:
    """However long the job that it has left takes to stop."""
    stopping = asyncio.Event()

    async def slow_to_stop(play: Play) -> None:
        if len(site.engine.ran) > 1:
            play.image()
            return
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await stopping.wait()
            raise

    site = await serve(FakeEngine(slow_to_stop))
    callers = Callers(site, body_of(id="a"))
    await callers.call()
    await eventually(lambda: bool(site.engine.ran))
    await callers.hang_up(0)
    job = site.services.jobs.find("a")
    await eventually(lambda: job is not None and job._stopped is not None)
    again = asyncio.ensure_future(post(site, body_of(id="a")))
    await asyncio.sleep(0.05)
    stopping.set()
    status, answer = await again
    assert (status, len(json.loads(answer)["images"])) == (200, 1)
    await callers.close()


async def test_without_cancel_on_disconnect_a_job_that_was_left_answers_a_repeat(
    serve: Serve,
) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate), cancel_on_disconnect=False)
    callers = Callers(site, body_of(id="a"))
    await callers.call()
    await callers.hang_up(0)
    await asyncio.sleep(0.2)
    gate.is_open.set()
    assert (await post(site, body_of(id="a")))[0] == 200
    assert site.engine.ran == ["a"]
    await callers.close()


async def test_an_accepted_job_answers_with_its_202_before_and_after_its_end(
    serve: Serve, there: Receiver
) -> None:
    gate = Gate()
    site = await serve(loading_engine(gate))
    image = f"{there.origin}/a.png"
    there.answers = [aiohttp.web.Response(body=png(1), content_type="image/png")]
    body = body_of(webhook_v2=there.url, priority=3, prompt=loading_graph(image))
    first = await post(site, body)
    assert first[0] == 202
    assert await post(site, body) == first
    assert (await post(site, body_of(webhook_v2=there.url)))[0] == 422
    gate.is_open.set()
    await eventually(lambda: len(there.received) == 2)
    assert await post(site, body) == first
    assert len(site.engine.ran) == 1


async def test_an_accepted_job_that_has_failed_answers_with_its_202_too(
    serve: Serve, there: Receiver
) -> None:
    async def fail(play: Play) -> None:
        raise ExecutionError("No.")

    site = await serve(FakeEngine(fail))
    body = body_of(id="a", webhook_v2=there.url, timeout_s=9)
    first = await post(site, body)
    await eventually(lambda: bool(there.received))
    assert await post(site, body) == first
    assert site.engine.ran == ["a"]


async def test_a_key_of_an_accepted_job_holds_over_a_restart(serve: Serve, there: Receiver) -> None:
    site = await serve(FakeEngine(Gate()))
    body = body_of(id="a", webhook_v2=there.url)
    first = await post(site, body)
    await site.stop()

    gate = Gate()
    again = await serve(FakeEngine(gate))
    assert await post(again, body) == first
    await again.background.resume()
    assert await post(again, body) == first
    assert (await post(again, body_of(id="b")))[0] == 422
    gate.is_open.set()
    await eventually(lambda: bool(there.received))
    assert await post(again, body) == first
    assert [message["id"] for message in messages(there)] == ["a"]
    assert again.engine.ran == ["a"]


async def test_a_key_that_is_too_long_is_a_400(serve: Serve) -> None:
    site = await serve()
    assert (await post(site, body_of(), "k" * 256))[0] == 400
    assert (await post(site, body_of(), "k" * 255))[0] == 200


async def test_a_key_that_is_no_text_is_a_400(serve: Serve) -> None:
    site = await serve()
    reader, writer = await asyncio.open_connection(site.client.host, site.client.port)
    body = body_of()
    head = b"POST /prompt HTTP/1.1\r\nHost: a\r\nConnection: close\r\nIdempotency-Key: \x84\r\n"
    writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Idempotency-Key is not UTF-8 text." in answer
    assert site.engine.ran == []


async def test_a_key_is_free_again_when_its_result_is_too_old(serve: Serve) -> None:
    site = await serve(result_ttl_s=0.2)
    await post(site, body_of(id="a"))
    deadline = asyncio.get_running_loop().time() + 5
    while (await post(site, body_of(id="b")))[0] == 422:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)
    assert site.engine.ran == ["a", "b"]


async def test_a_repeat_that_takes_events_gets_the_end_as_one(serve: Serve) -> None:
    site = await serve(FakeEngine(outputs))
    _, first = await post(site, body_of(id="a"))
    status, stream = await post(site, body_of(id="a"), Accept="text/event-stream")
    assert status == 200
    head, event, data, *_ = stream.split(b"\n")
    assert (head.split(b":")[0], event) == (b"id", b"event: succeeded")
    assert data == b"data: " + first


async def test_a_repeat_of_a_failure_that_takes_events_gets_it_as_one(serve: Serve) -> None:
    async def fail(play: Play) -> None:
        raise ExecutionError("No.")

    site = await serve(FakeEngine(fail))
    _, first = await post(site, body_of(id="a"))
    status, stream = await post(site, body_of(id="a"), Accept="text/event-stream")
    assert status == 200
    assert b"event: failed\ndata: " + first in stream
