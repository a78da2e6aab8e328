from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from comfyui_stateless.config import HttpAccess
from comfyui_stateless.errors import (
    AccessDenied,
    DeliveryFailed,
    ExecutionError,
    HostRefused,
    TransferFailed,
    UnsupportedURL,
)
from comfyui_stateless.storage.azure import AzureTarget
from comfyui_stateless.storage.http import HttpTarget
from comfyui_stateless.storage.policy import Policy
from comfyui_stateless.storage.s3 import S3Target
from comfyui_stateless.uploads import MAX_RETRY_AFTER_S, Uploaded, Uploads, _pause
from tests.uploads.receiver import BOUND_S, Answer, Receiver, receiving
from tests.uploads.uploading import (
    AWKWARD_NAMES,
    LARGE_BYTES,
    SECRET,
    come,
    delivered,
    eventually,
    failure,
    output,
    target,
)

# What arrives


@pytest.mark.parametrize("size", [0, 1, 1000, LARGE_BYTES])
@pytest.mark.parametrize("is_file", [False, True])
async def test_an_output_arrives_as_it_is(
    uploads: Uploads, receiver: Receiver, tmp_path: Path, size: int, is_file: bool
) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    body = tmp_path / "file" if is_file else content
    urls = await delivered(uploads, target(receiver), [output("a.webp", body, "image/webp")])
    assert urls == (f"{receiver.origin}/out/a.webp",)
    found = receiver.received["/out/a.webp"]
    assert (found.size, found.media_type) == (size, "image/webp")
    assert found.digest == hashlib.sha256(content).hexdigest()


async def test_each_output_has_its_own_media_type(uploads: Uploads, receiver: Receiver) -> None:
    types = {"a.png": "image/png", "b.mp4": "video/mp4", "c.flac": "audio/flac", "d.txt": "text/a"}
    outputs = [output(name, b"1", kind) for name, kind in types.items()]
    await delivered(uploads, target(receiver), outputs)
    assert {p: r.media_type for p, r in receiver.received.items()} == {
        f"/out/{name}": kind for name, kind in types.items()
    }


@pytest.mark.parametrize("name", AWKWARD_NAMES)
async def test_a_name_of_any_kind_arrives_as_it_is(
    uploads: Uploads, receiver: Receiver, name: str
) -> None:
    (url,) = await delivered(uploads, target(receiver), [output(name)])
    assert list(receiver.received) == [f"/out/{name}"]
    assert url == receiver.origin + receiver.received[f"/out/{name}"].target


async def test_urls_are_in_the_order_of_the_outputs_whichever_arrives_first(
    uploads: Uploads, receiver: Receiver
) -> None:
    first, second, third = (output(f"{n}.png") for n in (1, 2, 3))
    hold = receiver.hold("/out/1.png")
    async with uploads.job(target(receiver)) as job:
        job.begin(third)
        job.begin(first)
        finishing = asyncio.ensure_future(job.finish([first, second, third]))
        await eventually(lambda: len(receiver.received) == 2)
        hold.released.set()
        urls = await finishing
    assert urls == tuple(f"{receiver.origin}/out/{n}.png" for n in (1, 2, 3))


async def test_an_output_is_there_before_the_job_is_done(
    uploads: Uploads, receiver: Receiver
) -> None:
    async with uploads.job(target(receiver)) as job:
        job.begin(early := output("early.png", b"early"))
        await eventually(lambda: receiver.came("/out/early.png", b"early"))
        await eventually(lambda: bool(job.uploaded))
        assert job.uploaded == (f"{receiver.origin}/out/early.png",)
        await job.finish([early, output("late.png", b"late")])
    assert receiver.requests == ["/out/early.png", "/out/late.png"]


async def test_without_a_target_nothing_is_uploaded(uploads: Uploads) -> None:
    async with uploads.job(None) as job:
        job.begin(output("a.png"))
        assert await job.finish([output("a.png")]) == ()


async def test_each_arrival_is_told_on_the_loop(
    make: Callable[..., Uploads], receiver: Receiver, tmp_path: Path
) -> None:
    told: list[tuple[Uploaded, int]] = []
    uploads = make(on_uploaded=lambda arrived: told.append((arrived, threading.get_ident())))
    (file := tmp_path / "file").write_bytes(b"12345")
    async with uploads.job(target(receiver)) as job:
        await job.finish([output("a.png", file)])
        await job.finish([output("b.png", b"123")])
    assert [(t.url, t.size, t.path) for t, _ in told] == [
        (f"{receiver.origin}/out/a.png", 5, file),
        (f"{receiver.origin}/out/b.png", 3, None),
    ]
    assert {thread for _, thread in told} == {threading.get_ident()}
    assert all(0 < t.seconds < BOUND_S for t, _ in told)


async def test_many_jobs_upload_many_outputs_at_once(
    make: Callable[..., Uploads], receiver: Receiver
) -> None:
    uploads = make(threads=6)

    async def job(number: int) -> None:
        outputs = [output(f"{number}/{n}.png", f"{number} {n}".encode()) for n in range(30)]
        urls = await delivered(uploads, target(receiver), outputs)
        assert urls == tuple(f"{receiver.origin}/out/{o.filename}" for o in outputs)

    await asyncio.gather(*(job(number) for number in range(6)))
    assert len(receiver.received) == 180
    assert all(
        receiver.came(f"/out/{job}/{n}.png", f"{job} {n}".encode())
        for job in range(6)
        for n in range(30)
    )
    assert receiver.most_at_once <= 6


async def test_a_job_whose_receiver_hangs_leaves_threads_to_the_others(
    make: Callable[..., Uploads], receiver: Receiver
) -> None:
    uploads = make(threads=4)
    hanging = [output(f"{n}.png") for n in range(10)]
    for each in hanging:
        receiver.hold(f"/out/{each.filename}")
    async with uploads.job(target(receiver)) as slow, uploads.job(target(receiver)) as quick:
        for each in hanging:
            slow.begin(each)
        await eventually(lambda: receiver.at_once == 2)
        await asyncio.wait_for(quick.finish([output("other.png")]), BOUND_S)
        assert receiver.most_at_once == 3


async def test_a_large_file_takes_little_memory(
    uploads: Uploads, receiver: Receiver, tmp_path: Path
) -> None:
    with (file := tmp_path / "large.mp4").open("wb") as stream:
        stream.truncate(200 * 1024 * 1024)
    tracemalloc.start()
    try:
        await delivered(uploads, target(receiver), [output("large.mp4", file, "video/mp4")])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert receiver.received["/out/large.mp4"].size == 200 * 1024 * 1024
    assert peak < 8 * 1024 * 1024


# What goes wrong


async def test_an_upload_that_fails_is_tried_again(uploads: Uploads, receiver: Receiver) -> None:
    receiver.answers["/out/a.png"] = [Answer(500), Answer(503)]
    await delivered(uploads, target(receiver), [output("a.png", b"third time")])
    assert receiver.requests == ["/out/a.png"] * 3
    assert receiver.came("/out/a.png", b"third time")


async def test_after_three_tries_the_job_fails(uploads: Uploads, receiver: Receiver) -> None:
    receiver.answers["/out/a.png"] = [Answer(500)] * 9
    error = await failure(delivered(uploads, target(receiver), [output("a.png")]))
    assert receiver.requests == ["/out/a.png"] * 3
    assert (error.status, error.code) == (502, "delivery_failed")
    assert error.details == {"reason": "transfer_failed", "uploaded": []}
    assert f"{receiver.origin}/out/a.png could not be uploaded" in error.message
    assert "500" in error.message


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413])
async def test_a_refusal_is_final(uploads: Uploads, receiver: Receiver, status: int) -> None:
    receiver.answers["/out/a.png"] = [Answer(status)] * 9
    error = await failure(delivered(uploads, target(receiver), [output("a.png")]))
    assert isinstance(error, DeliveryFailed)
    assert str(status) in error.message
    assert len(receiver.requests) == 1


async def test_the_storage_says_how_long_to_wait(uploads: Uploads, receiver: Receiver) -> None:
    receiver.answers["/out/a.png"] = [Answer(503, {"Retry-After": "1"})]
    began = time.monotonic()
    await delivered(uploads, target(receiver), [output("a.png")])
    assert time.monotonic() - began >= 1


def test_it_is_not_waited_longer_than_is_reasonable() -> None:
    error = TransferFailed("Later.")
    error.retry_after_s = 86400.0
    assert _pause(0.5, error) == MAX_RETRY_AFTER_S
    error.retry_after_s = None
    assert 0.4 <= _pause(0.5, error) <= 0.6


async def test_what_waits_for_another_try_holds_no_thread(
    make: Callable[..., Uploads], receiver: Receiver
) -> None:
    uploads = make(threads=1, retry_delays=(BOUND_S,))
    receiver.answers["/out/a.png"] = [Answer(500)]
    async with uploads.job(target(receiver)) as waiting, uploads.job(target(receiver)) as other:
        waiting.begin(output("a.png"))
        await eventually(lambda: receiver.requests == ["/out/a.png"])
        waiting.begin(output("c.png"))
        await eventually(lambda: "/out/c.png" in receiver.received)
        await asyncio.wait_for(other.finish([output("b.png")]), BOUND_S / 2)


async def test_a_failure_half_way_ends_the_others_and_tells_what_is_there(
    uploads: Uploads, receiver: Receiver
) -> None:
    receiver.answers["/out/bad.png"] = [Answer(403)]
    hold = receiver.hold("/out/slow.png")
    outputs = [output("first.png"), output("slow.png", bytes(LARGE_BYTES)), output("bad.png")]

    async def deliver() -> None:
        async with uploads.job(target(receiver)) as job:
            job.begin(outputs[0])
            await eventually(lambda: "/out/first.png" in receiver.received)
            job.begin(outputs[1])
            await come(hold.reached)
            await job.finish(outputs)

    error = await failure(deliver())
    assert error.details == {
        "reason": "access_denied",
        "uploaded": [f"{receiver.origin}/out/first.png"],
    }
    hold.released.set()
    await asyncio.to_thread(receiver.wait_until_idle)
    assert receiver.broken == ["/out/slow.png"]
    assert list(receiver.received) == ["/out/first.png"]


async def test_a_failure_before_the_end_ends_the_others_at_once_and_lets_none_begin(
    uploads: Uploads, receiver: Receiver
) -> None:
    receiver.answers["/out/bad.png"] = [Answer(403)]
    hold = receiver.hold("/out/slow.png")
    async with uploads.job(target(receiver)) as job:
        job.begin(output("slow.png", bytes(LARGE_BYTES)))
        await come(hold.reached)
        job.begin(output("bad.png"))
        hold.released.set()
        await eventually(lambda: receiver.broken == ["/out/slow.png"])
        job.begin(output("late.png"))
        with pytest.raises(DeliveryFailed, match=r"bad\.png"):
            await job.finish([output("late.png")])
    assert "/out/late.png" not in receiver.requests


async def test_a_job_that_fails_elsewhere_tells_what_is_there(
    uploads: Uploads, receiver: Receiver
) -> None:
    failed = ExecutionError("A node raised.", details={"node_id": "3"})

    async def fail() -> None:
        async with uploads.job(target(receiver)) as job:
            await job.finish([output("a.png")])
            raise failed

    assert await failure(fail()) is failed
    assert failed.details == {"node_id": "3", "uploaded": [f"{receiver.origin}/out/a.png"]}


async def test_a_file_that_is_gone_fails_the_job_without_its_path(
    uploads: Uploads, receiver: Receiver, tmp_path: Path
) -> None:
    (file := tmp_path / "file").write_bytes(b"1")
    gone = output("a.png", file)
    file.unlink()
    error = await failure(delivered(uploads, target(receiver), [gone]))
    assert isinstance(error, DeliveryFailed)
    assert "No such file" in error.message
    assert str(tmp_path) not in str(error.body())


async def test_a_server_that_is_not_there_fails_the_job(uploads: Uploads) -> None:
    with receiving() as gone:
        place = target(gone)
    error = await failure(delivered(uploads, place, [output("a.png")]))
    assert isinstance(error, DeliveryFailed)
    assert error.details["reason"] == "transfer_failed"


async def test_a_storage_that_does_not_exist_fails_the_job(uploads: Uploads) -> None:
    for place in (AzureTarget(container="images"), S3Target(bucket="no-backend-here")):
        error = await failure(delivered(uploads, place, [output("a.png")]))
        assert isinstance(error, DeliveryFailed)
        assert error.details == {"reason": "unsupported_url", "uploaded": []}


# What is refused before anything runs


async def test_a_target_that_may_work_passes(
    make: Callable[..., Uploads], receiver: Receiver
) -> None:
    await make().check(target(receiver))
    trusting = Policy(HttpAccess(trusted=frozenset({receiver.origin})))
    await make(policy=trusting).check(target(receiver))
    assert receiver.requests == []


async def test_an_account_that_is_not_set_is_refused(uploads: Uploads) -> None:
    with pytest.raises(UnsupportedURL, match="AZURE_STORAGE_CONNECTION_STRING") as caught:
        await uploads.check(AzureTarget(container="images"))
    assert caught.value.status == 400


async def test_a_host_that_the_policy_refuses_is_refused(make: Callable[..., Uploads]) -> None:
    def resolve(host: str, port: int) -> list[str]:
        if host == "nobody.example":
            raise OSError
        return {"inside.example": ["10.0.0.1"], "outside.example": ["93.184.216.34"]}[host]

    uploads = make(policy=Policy(HttpAccess(), resolve=resolve))
    for host in ("127.0.0.1:9", "169.254.169.254", "[::1]", "inside.example"):
        with pytest.raises(HostRefused) as caught:
            await uploads.check(HttpTarget(url_prefix=f"http://user:{SECRET}@{host}/?{SECRET}"))
        assert caught.value.status == 400
        assert SECRET not in str(caught.value.body())
    for host in ("outside.example", "nobody.example"):
        await uploads.check(HttpTarget(url_prefix=f"https://{host}/out"))


# Secrets


async def test_no_reply_error_or_log_line_holds_a_secret(
    make: Callable[..., Uploads], receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Uploaded] = []
    uploads = make(on_uploaded=told.append)
    prefix = receiver.origin.replace("//", f"//user:{SECRET}@") + f"/out?sig={SECRET}"
    place = HttpTarget(url_prefix=prefix)
    receiver.answers["/out/b.png"] = [Answer(500), Answer(403)]
    with caplog.at_level(logging.DEBUG):
        urls = await delivered(uploads, place, [output("a.png")])
        error = await failure(delivered(uploads, place, [output("b.png")]))
    assert receiver.received["/out/a.png"].target == f"/out/a.png?sig={SECRET}"
    assert (receiver.received["/out/a.png"].authorization or "").startswith("Basic ")
    assert urls == (f"{receiver.origin}/out/a.png",)
    assert isinstance(error.__cause__, AccessDenied)
    shown = [
        *traceback.format_exception(error),
        repr(error.body()),
        repr(told),
        repr(place),
        *(caplog.handler.format(record) for record in caplog.records),
    ]
    assert any("Uploading again" in line for line in shown)
    assert [line for line in shown if SECRET in line] == []
