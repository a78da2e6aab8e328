from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ClassVar

import pytest

from comfyui_stateless.errors import StatelessError, Superseded, Unavailable
from comfyui_stateless.storage.auth import Auth
from comfyui_stateless.storage.base import Cancel, Cancelled, Download, ObjectInfo, Source, Span
from comfyui_stateless.storage.http import HttpTarget
from comfyui_stateless.storage.s3 import S3Target
from comfyui_stateless.uploads import Uploads
from tests.uploads.receiver import BOUND_S, Answer, Receiver
from tests.uploads.uploading import (
    LARGE_BYTES,
    SECRET,
    backends,
    come,
    delivered,
    eventually,
    failure,
    output,
    target,
)

# Cancelling


async def test_to_leave_a_job_ends_its_uploads(uploads: Uploads, receiver: Receiver) -> None:
    hold = receiver.hold("/out/a.png")
    async with uploads.job(target(receiver)) as job:
        job.begin(output("a.png", bytes(LARGE_BYTES)))
        await come(hold.reached)
    job.begin(output("b.png"))
    hold.released.set()
    await asyncio.to_thread(receiver.wait_until_idle)
    assert (receiver.requests, receiver.broken) == (["/out/a.png"], ["/out/a.png"])


async def test_to_cancel_a_job_ends_its_uploads(uploads: Uploads, receiver: Receiver) -> None:
    outputs = [output(f"{n}.png", bytes(LARGE_BYTES)) for n in range(10)]
    holds = [receiver.hold(f"/out/{o.filename}") for o in outputs]

    delivering = asyncio.ensure_future(delivered(uploads, target(receiver), outputs))
    await come(holds[0].reached)
    delivering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await delivering
    for hold in holds:
        hold.released.set()
    await asyncio.to_thread(receiver.wait_until_idle)
    assert receiver.received == {}
    assert 1 <= len(receiver.requests) <= 4


async def test_what_has_ended_is_forgotten_in_silence(
    make: Callable[..., Uploads], receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    uploads = make(threads=2)
    receiver.answers["/out/bad.png"] = [Answer(403)]
    hold = receiver.hold("/out/slow.png")
    outputs = [output("a.png"), output("slow.png", bytes(LARGE_BYTES)), output("bad.png")]
    delivering = asyncio.ensure_future(delivered(uploads, target(receiver), outputs))
    await come(hold.reached)
    delivering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await delivering
    await failure(delivered(uploads, target(receiver), [output("bad.png")]))
    gc.collect()
    assert uploads._writers._live == {}
    assert [record for record in caplog.records if record.name == "asyncio"] == []


async def test_what_waits_for_a_thread_is_cancelled_without_waiting_for_other_jobs(
    make: Callable[..., Uploads], receiver: Receiver
) -> None:
    uploads = make(threads=1)
    hold = receiver.hold("/out/slow.png")
    async with uploads.job(target(receiver)) as slow:
        slow.begin(output("slow.png", bytes(LARGE_BYTES)))
        await come(hold.reached)

        async def leave() -> None:
            async with uploads.job(target(receiver)) as job:
                job.begin(output("waits.png"))
                await asyncio.sleep(0.05)

        await asyncio.wait_for(leave(), BOUND_S / 2)
    assert receiver.requests == ["/out/slow.png"]


async def test_closing_ends_what_runs(make: Callable[..., Uploads], receiver: Receiver) -> None:
    uploads = make(threads=2)
    hold = receiver.hold("/out/0.png")
    outputs = [output(f"{n}.png", bytes(LARGE_BYTES)) for n in range(4)]
    delivering = asyncio.ensure_future(delivered(uploads, target(receiver), outputs))
    await come(hold.reached)
    uploads.close()
    error = await failure(delivering)
    assert isinstance(error, Unavailable)
    assert "server stops" in error.message
    assert receiver.received == {}


async def test_closing_ends_what_waits_for_another_try(
    make: Callable[..., Uploads], receiver: Receiver
) -> None:
    uploads = make(retry_delays=(0.3,))
    receiver.answers["/out/a.png"] = [Answer(500)]
    delivering = asyncio.ensure_future(delivered(uploads, target(receiver), [output("a.png")]))
    await eventually(lambda: receiver.answers["/out/a.png"] == [])
    await asyncio.to_thread(receiver.wait_until_idle)
    uploads.close()
    assert isinstance(await failure(delivering), Unavailable)
    assert receiver.received == {}


# Uploads to one place


class Deliberate:
    """A backend whose uploads end when they are let, and stop a while after they are told to."""

    name: ClassVar[str] = "deliberate"
    stopping_s = 0.2

    def __init__(self) -> None:
        self.log: list[tuple[str, bytes]] = []
        self.begun: dict[bytes, threading.Event] = {}
        self.released: dict[bytes, threading.Event] = {}

    def matches(self, url: str) -> bool:
        return True

    def put(self, url: str, source: Source, auth: Auth | None, cancel: Cancel) -> None:
        assert isinstance(source.body, bytes)
        cancel.check()
        self.log.append(("begins", source.body))
        self.moment(self.begun, source.body).set()
        try:
            released = self.moment(self.released, source.body)
            with cancel.calling(released.set):
                assert released.wait(BOUND_S)
            cancel.check()
            self.log.append(("arrives", source.body))
        except Cancelled:
            time.sleep(self.stopping_s)
            self.log.append(("stops", source.body))
            raise

    @staticmethod
    def moment(moments: dict[bytes, threading.Event], body: bytes) -> threading.Event:
        return moments.setdefault(body, threading.Event())

    def head(self, url: str, auth: Auth | None, cancel: Cancel) -> ObjectInfo:
        raise NotImplementedError

    def open(self, url: str, auth: Auth | None, span: Span | None, cancel: Cancel) -> Download:
        raise NotImplementedError

    def close(self) -> None: ...


@pytest.fixture
def deliberate() -> Deliberate:
    return Deliberate()


@pytest.fixture
def at_one_place(deliberate: Deliberate) -> Iterator[Callable[[bytes], Awaitable[Any]]]:
    """Give what runs a job that uploads these bytes to always the same URL."""
    uploads = Uploads(backends(deliberate))

    async def run(body: bytes) -> StatelessError | tuple[str, ...]:
        try:
            return await delivered(uploads, S3Target(bucket="bucket"), [output("same.png", body)])
        except StatelessError as error:
            return error

    yield run
    uploads.close()


async def test_a_later_upload_to_a_url_ends_the_earlier_and_waits_until_it_has_stopped(
    deliberate: Deliberate, at_one_place: Callable[[bytes], Awaitable[Any]]
) -> None:
    earlier = asyncio.ensure_future(at_one_place(b"1"))
    await come(deliberate.moment(deliberate.begun, b"1"))
    deliberate.moment(deliberate.released, b"2").set()
    assert await at_one_place(b"2") == ("s3://bucket/same.png",)
    error = await earlier
    assert isinstance(error, Superseded)
    assert "s3://bucket/same.png" in error.message
    assert error.details == {"uploaded": []}
    assert deliberate.log == [
        ("begins", b"1"),
        ("stops", b"1"),
        ("begins", b"2"),
        ("arrives", b"2"),
    ]


async def test_of_many_uploads_to_a_url_the_last_one_alone_arrives(
    deliberate: Deliberate, at_one_place: Callable[[bytes], Awaitable[Any]]
) -> None:
    bodies = [b"%d" % n for n in range(6)]
    first = asyncio.ensure_future(at_one_place(bodies[0]))
    await come(deliberate.moment(deliberate.begun, bodies[0]))
    deliberate.moment(deliberate.released, bodies[-1]).set()
    outcomes = await asyncio.gather(first, *(at_one_place(body) for body in bodies[1:]))
    assert [isinstance(outcome, Superseded) for outcome in outcomes] == [True] * 5 + [False]
    assert deliberate.log == [
        ("begins", bodies[0]),
        ("stops", bodies[0]),
        ("begins", bodies[-1]),
        ("arrives", bodies[-1]),
    ]


async def test_leaving_waits_until_an_upload_has_stopped(deliberate: Deliberate) -> None:
    uploads = Uploads(backends(deliberate))
    async with uploads.job(S3Target(bucket="bucket")) as job:
        job.begin(output("a.png", b"1"))
        await come(deliberate.moment(deliberate.begun, b"1"))
    assert deliberate.log == [("begins", b"1"), ("stops", b"1")]
    uploads.close()


async def test_the_loop_goes_on_while_an_upload_stops(deliberate: Deliberate) -> None:
    uploads = Uploads(backends(deliberate))
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.ensure_future(tick())
    async with uploads.job(S3Target(bucket="bucket")) as job:
        job.begin(output("a.png", b"1"))
        await come(deliberate.moment(deliberate.begun, b"1"))
        ticks = 0
    assert ticks >= 3
    ticking.cancel()
    uploads.close()


async def test_leaving_is_not_cut_short_by_being_cancelled_twice(deliberate: Deliberate) -> None:
    uploads = Uploads(backends(deliberate))

    place = S3Target(bucket="bucket")
    delivering = asyncio.ensure_future(delivered(uploads, place, [output("a.png", b"1")]))
    await come(deliberate.moment(deliberate.begun, b"1"))
    for _ in range(3):
        delivering.cancel()
        await asyncio.sleep(0.02)
    with pytest.raises(asyncio.CancelledError):
        await delivering
    assert deliberate.log == [("begins", b"1"), ("stops", b"1")]
    uploads.close()


async def test_over_http_a_later_upload_ends_the_earlier(
    uploads: Uploads, receiver: Receiver
) -> None:
    hold = receiver.hold("/out/same.png")
    old, new = bytes(LARGE_BYTES), os.urandom(1000)
    first_kept = output("kept.png", b"kept")

    async def earlier() -> None:
        async with uploads.job(HttpTarget(url_prefix=f"{receiver.origin}/out")) as job:
            job.begin(first_kept)
            await eventually(lambda: receiver.came("/out/kept.png", b"kept"))
            await job.finish([first_kept, output("same.png", old)])

    running = asyncio.ensure_future(earlier())
    await come(hold.reached)
    hold.released.set()
    login = receiver.origin.replace("//", f"//user:{SECRET}@")
    await delivered(uploads, HttpTarget(url_prefix=f"{login}/out/"), [output("same.png", new)])
    error = await failure(running)
    assert isinstance(error, Superseded)
    assert f"{receiver.origin}/out/same.png" in error.message
    assert error.details == {"uploaded": [f"{receiver.origin}/out/kept.png"]}
    assert SECRET not in str(error.body())
    await asyncio.to_thread(receiver.wait_until_idle)
    assert receiver.came("/out/same.png", new)
    assert receiver.broken == ["/out/same.png"]


async def test_an_upload_that_is_over_is_not_superseded(
    uploads: Uploads, receiver: Receiver
) -> None:
    async with uploads.job(target(receiver)) as earlier, uploads.job(target(receiver)) as later:
        await earlier.finish([output("same.png", b"1")])
        await later.finish([output("same.png", b"2")])
        await earlier.finish([output("other.png", b"3")])
    assert receiver.came("/out/same.png", b"2")


async def test_other_queries_are_other_places(uploads: Uploads, receiver: Receiver) -> None:
    hold = receiver.hold("/out/same.png")
    places = [HttpTarget(url_prefix=f"{receiver.origin}/out/?of={n}") for n in (1, 2)]
    async with uploads.job(places[0]) as one, uploads.job(places[1]) as two:
        one.begin(output("same.png"))
        two.begin(output("same.png"))
        await eventually(lambda: receiver.at_once == 2)
        hold.released.set()
        await one.finish([output("same.png")])
        await two.finish([output("same.png")])
