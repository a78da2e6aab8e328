from __future__ import annotations

import asyncio
import base64
import itertools
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import standardwebhooks
import svix.webhooks

from comfyui_stateless import recording
from comfyui_stateless.engine import CapturedImage
from comfyui_stateless.errors import (
    InvalidPrompt,
    OutOfMemory,
    QueueFull,
    RequestError,
    StorageError,
    Unavailable,
)
from comfyui_stateless.inputs import Uploaded
from comfyui_stateless.jobs import JobState
from comfyui_stateless.journal import DueMessage, Message, NewJob, Source
from comfyui_stateless.journal.journal import Journal
from comfyui_stateless.webhooks import check_secret
from tests.accepting import (
    SECRET,
    Live,
    Loaded,
    lives,
    loading_engine,
    loading_graph,
    messages,
    png,
)
from tests.fakes import PIXELS, FakeEngine, Gate, Play, eventually, graph
from tests.storage.file_server import file_server
from tests.uploads.receiver import Answer as Put
from tests.uploads.receiver import receiving
from tests.webhooks.receivers import Receiver, Sleeper, asleep, never

pytestmark = pytest.mark.usefixtures("plain_environment")

ROOT = Path(__file__).parents[1]
KILLS = 4

StartReceiver = Callable[..., Awaitable[Receiver]]


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    async for start in lives(tmp_path):
        yield start


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    receiver = await Receiver().start()
    yield receiver
    await receiver.stop()


async def arrived(there: Receiver, count: int = 1) -> list[Any]:
    """Wait for messages; return them."""
    await eventually(lambda: len(there.received) >= count, within_s=10)
    return messages(there)


# Accepting


async def test_a_job_is_recorded_when_its_caller_is_told_that_it_is_accepted(
    live: Live, there: Receiver
) -> None:
    gate = Gate()
    life = await live(gate)
    answer = await life.accept(id="a", webhook_v2=there.url)
    assert [job.id for job in await life.unfinished()] == ["a"]
    assert answer["id"] == "a"
    assert there.received == []
    gate.is_open.set()
    (message,) = await arrived(there)
    assert (message["type"], message["id"]) == ("prompt.complete", "a")
    assert await life.unfinished() == []


async def test_a_job_is_not_accepted_before_its_inputs_are_there_and_it_is_valid(
    live: Live, there: Receiver
) -> None:
    validated = asyncio.Event()

    class Careful(FakeEngine):
        async def validate(self, *arguments: Any) -> Any:
            await validated.wait()
            return await super().validate(*arguments)

    life = await live(engine=Careful())
    accepting = asyncio.ensure_future(life.accept(webhook_v2=there.url))
    await eventually(lambda: bool(life.services.jobs.depth()))
    assert not accepting.done()
    assert await life.unfinished() == []
    validated.set()
    assert (await accepting)["status"] == "ok"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a graph that is not valid": ({"id": "invalid"}, "prompt"),
    "an input that is not there": (
        {"prompt": loading_graph("http://127.0.0.1:9/gone.png")},
        "prompt.load-0.inputs.image",
    ),
    "an input that is no image": (
        {"prompt": loading_graph("data:text/html;base64,PGh0bWw+")},
        "prompt.load-0.inputs.image",
    ),
    "a webhook of another scheme": ({"webhook_v2": "ftp://host/hook"}, "webhook_v2"),
    "an old webhook of another scheme": (
        {"webhook_v2": None, "webhook": "file:///etc/passwd"},
        "webhook",
    ),
    "an account of Azure that is not there": (
        {"azure_blob_upload": {"container": "outputs"}},
        "azure_blob_upload",
    ),
}


@pytest.mark.parametrize(("fields", "location"), WRONG.values(), ids=WRONG)
async def test_a_request_that_is_wrong_is_refused_at_once_and_nothing_is_recorded(
    live: Live, there: Receiver, fields: dict[str, Any], location: str
) -> None:
    invalid = InvalidPrompt("No.", location="prompt") if fields.get("id") == "invalid" else None
    life = await live(engine=loading_engine(invalid=invalid))
    fields = {"webhook_v2": there.url, **fields}
    with pytest.raises(RequestError) as caught:
        await life.accept(**{name: value for name, value in fields.items() if value is not None})
    assert caught.value.status == 400
    assert caught.value.location == location
    assert (await life.journal.stats()).bytes == 0
    assert life.engine.ran == []
    assert life.services.jobs.depth() == 0


@pytest.mark.parametrize("field", ["webhook", "webhook_v2"])
@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "http://169.254.169.254/", "http://[::1]:80/"]
)
async def test_a_webhook_that_the_policy_refuses_is_a_400_at_once(
    live: Live, field: str, url: str
) -> None:
    life = await live(http_trusted_origins="")
    fields: dict[str, Any] = {field: url}
    with pytest.raises(RequestError) as caught:
        await life.accept(**fields)
    assert (caught.value.location, caught.value.details["reason"]) == (field, "host_refused")
    assert life.engine.prompts == []


async def test_an_upload_that_the_policy_refuses_is_a_400_at_once(live: Live) -> None:
    life = await live(http_trusted_origins="")
    with pytest.raises(RequestError) as caught:
        await life.accept(http_upload={"url_prefix": "http://127.0.0.1/out"})
    assert caught.value.location == "http_upload"
    assert await life.unfinished() == []


async def test_a_full_queue_accepts_nothing(live: Live, there: Receiver) -> None:
    gate = Gate()
    life = await live(gate, max_queue_depth=1, reject_when_full=True)
    await life.accept(webhook_v2=there.url)
    with pytest.raises(QueueFull):
        await life.accept(webhook_v2=there.url)
    assert len(await life.unfinished()) == 1
    gate.is_open.set()
    await arrived(there)


async def test_without_an_open_journal_nothing_is_accepted(live: Live, there: Receiver) -> None:
    life = await live()
    await life.background.close()
    with pytest.raises(Unavailable) as caught:
        await life.accept(webhook_v2=there.url)
    assert caught.value.headers == {"Retry-After": "5"}


async def test_a_job_that_is_stopped_while_it_is_recorded_is_announced(
    live: Live, there: Receiver
) -> None:
    """What is in the journal is a promise, also where it was stopped before anybody knew."""
    written, goes_on = asyncio.Event(), asyncio.Event()

    class Slow(Journal):
        async def accept(self, job: NewJob) -> None:
            await super().accept(job)
            written.set()
            await goes_on.wait()

    life = await live(accepting={"journal": Slow})
    accepting = asyncio.ensure_future(life.accept(id="a", webhook_v2=there.url))
    await written.wait()
    assert life.services.jobs.interrupt("a")
    await asyncio.sleep(0)
    goes_on.set()
    assert (await accepting)["status"] == "ok"
    (message,) = await arrived(there)
    assert (message["type"], message["code"]) == ("prompt.failed", "interrupted")
    assert await life.unfinished() == []


# Announcing


async def gives_what_cannot_be_encoded(play: Play) -> None:
    def fail() -> tuple[tuple[str, str], ...]:
        raise RuntimeError("inside")

    play.observer.image(CapturedImage("2", "a.png", False, PIXELS, fail))


async def gives_no_image(play: Play) -> None:
    play.file("a.png", b"\x89PNG\r\n\x1a\nbroken")


async def runs_for_ever(play: Play) -> None:
    await asyncio.Event().wait()


async def runs_out_of_memory(play: Play) -> None:
    raise OutOfMemory("CUDA out of memory.", details={"node_id": "1"})


async def crashes(play: Play) -> None:
    raise RuntimeError("inside")


FAILURES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "its execution": (runs_out_of_memory, {}, "out_of_memory"),
    "something unforeseen": (crashes, {}, "internal_error"),
    "its encoding": (gives_what_cannot_be_encoded, {}, "internal_error"),
    "its conversion": (
        gives_no_image,
        {"convert_output": {"format": "jpeg"}},
        "conversion_failed",
    ),
    "its timeout": (runs_for_ever, {"timeout_s": 0.05}, "timeout"),
}


@pytest.mark.parametrize(("script", "fields", "code"), FAILURES.values(), ids=FAILURES)
async def test_a_job_that_fails_after_it_was_accepted_is_announced_whatever_it_fails_of(
    live: Live, there: Receiver, script: Any, fields: dict[str, Any], code: str
) -> None:
    life = await live(script)
    answer = await life.accept(id="a", webhook_v2=there.url, **fields)
    (message,) = await arrived(there)
    assert message.keys() == {"type", "timestamp", "id", "prompt", "error", "code", "details"}
    assert (message["type"], message["id"], message["code"]) == ("prompt.failed", "a", code)
    assert message["prompt"] == answer["prompt"]
    assert "inside" not in message["error"]
    assert await life.unfinished() == []


async def test_an_interrupt_is_announced(live: Live, there: Receiver) -> None:
    life = await live(runs_for_ever)
    await life.accept(id="a", webhook_v2=there.url)
    await eventually(lambda: life.engine.ran == ["a"])
    assert life.services.jobs.interrupt("a")
    (message,) = await arrived(there)
    assert (message["code"], life.engine.stopped) == ("interrupted", ["a"])


async def test_an_upload_that_fails_is_announced_with_what_is_there(
    live: Live, there: Receiver
) -> None:
    async def two(play: Play) -> None:
        play.file("a.bin", b"a")
        play.file("b.bin", b"b")

    with receiving() as storage:
        storage.answers["/out/b.bin"] = [Put(403)]
        life = await live(two)
        target = {"url_prefix": f"{storage.origin}/out", "async": False}
        await life.accept(webhook_v2=there.url, http_upload=target)
        (message,) = await arrived(there)
    assert (message["type"], message["code"]) == ("prompt.failed", "delivery_failed")
    assert message["details"]["reason"] == "access_denied"
    assert set(message["details"]["uploaded"]) <= {f"{storage.origin}/out/a.bin"}


async def test_messages_are_signed_so_that_the_public_verifiers_accept_them(
    live: Live, there: Receiver
) -> None:
    life = await live(accepting={"key": check_secret(SECRET)})
    await life.accept(id="a", webhook_v2=there.url)
    await arrived(there)
    (got,) = there.received
    assert standardwebhooks.Webhook(SECRET).verify(got.body, got.headers)["id"] == "a"
    svix.webhooks.Webhook(SECRET).verify(got.body, got.headers)
    with pytest.raises(svix.webhooks.WebhookVerificationError):
        svix.webhooks.Webhook(SECRET).verify(got.body + b" ", got.headers)


async def test_without_a_secret_there_is_no_signature(live: Live, there: Receiver) -> None:
    life = await live()
    await life.accept(webhook_v2=there.url)
    await arrived(there)
    assert there.received[0].message_id.startswith("msg_")
    assert "webhook-signature" not in there.received[0].headers


# Journals that fail


class Full(Journal):
    """A journal on a disk that is full when a job ends, as often as ``failures`` says."""

    failures = 0
    error: Exception = StorageError("The journal in STATE_DIR failed: disk full.")

    async def finish(
        self,
        run_id: str,
        outcome: Mapping[str, Any],
        messages: Sequence[DueMessage] = (),
        files: Mapping[str, Source] | None = None,
    ) -> list[Message]:
        if type(self).failures:
            type(self).failures -= 1
            raise self.error
        return await super().finish(run_id, outcome, messages, files)


async def test_an_end_that_cannot_be_recorded_is_tried_until_it_can(
    live: Live,
    there: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(recording, "RETRY_DELAYS_S", (0.01, 0.02))
    journal = type("TwiceFull", (Full,), {"failures": 4})
    life = await live(accepting={"journal": journal})
    await life.accept(id="a", webhook_v2=there.url)
    (message,) = await arrived(there)
    assert (message["type"], len(message["images"])) == ("prompt.complete", 1)
    assert caplog.text.count("disk full") == 4
    assert life.engine.ran == ["a"]


async def test_while_an_end_is_not_recorded_the_job_is_not_done_and_its_place_is_free(
    live: Live, there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = type("OnceFull", (Full,), {"failures": 1})
    monkeypatch.setattr(recording, "RETRY_DELAYS_S", (60.0,))
    life = await live(accepting={"journal": journal})
    await life.accept(id="a", webhook_v2=there.url)
    await eventually(lambda: not journal.failures)  # type: ignore[attr-defined]
    await life.accept(id="b", webhook_v2=there.url)
    assert [message["id"] for message in await arrived(there)] == ["b"]
    job = life.services.jobs.find("a")
    assert job is not None
    assert job.state is JobState.DELIVERING
    assert [job.id for job in await life.unfinished()] == ["a"]

    await life.end()
    again = await live()
    assert {message["id"] for message in await arrived(there, 2)} == {"a", "b"}
    assert again.engine.ran == ["a"]


async def test_an_end_whose_record_fails_in_an_unforeseen_way_is_a_failure_that_is_logged(
    live: Live, there: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    journal = type("Broken", (Full,), {"failures": 1, "error": RuntimeError("inside")})
    life = await live(accepting={"journal": journal})
    await life.accept(id="a", webhook_v2=there.url)
    await eventually(lambda: life.services.jobs.depth() == 0)
    job = life.services.jobs.find("a")
    assert job is not None
    await eventually(lambda: job.state is JobState.FAILED)
    assert job.error is not None
    assert job.error["code"] == "internal_error"
    assert "inside" in caplog.text
    assert [job.id for job in await life.unfinished()] == ["a"]


async def test_an_attempt_that_cannot_be_counted_is_made_all_the_same(
    live: Live, there: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    class Uncounting(Journal):
        async def begin_attempt(self, run_id: str) -> int:
            raise StorageError("The journal in STATE_DIR failed: disk full.")

    life = await live(accepting={"journal": Uncounting})
    await life.accept(webhook_v2=there.url)
    (message,) = await arrived(there)
    assert message["type"] == "prompt.complete"
    assert "was not counted" in caplog.text


# Restarts


async def test_jobs_that_wait_and_run_are_run_again_after_a_restart(
    live: Live, there: Receiver
) -> None:
    life = await live(Gate())
    for name in ("a", "b", "c", "d"):
        await life.accept(id=name, webhook_v2=there.url)
    await eventually(lambda: life.engine.ran == ["a"])
    await life.end()
    assert there.received == []

    again = await live()
    found = await arrived(there, 4)
    assert sorted(message["id"] for message in found) == ["a", "b", "c", "d"]
    assert {message["type"] for message in found} == {"prompt.complete"}
    assert sorted(again.engine.ran) == ["a", "b", "c", "d"]
    assert await again.unfinished() == []
    assert not any(folder.exists() for folder in again.engine.workspaces)


async def test_jobs_are_run_again_in_the_order_in_which_they_were_accepted(
    live: Live, there: Receiver
) -> None:
    names = [f"job-{number}" for number in range(12)]
    life = await live(Gate())
    for number, name in enumerate(names):
        large = {"title": "x" * 4_000_000} if number % 4 == 0 else {}
        prompt = {**graph(), "1": {**graph()["1"], "_meta": large}}
        await life.accept(id=name, webhook_v2=there.url, prompt=prompt)
    await life.end()

    again = await live()
    await arrived(there, len(names))
    assert again.engine.ran == names


async def test_a_job_is_run_again_with_the_media_it_came_with_though_their_origin_is_gone(
    live: Live, there: Receiver, tmp_path: Path
) -> None:
    """In every way in which an image comes, small and large."""
    fetched, inline, uploaded, small = (png(n, size) for n, size in enumerate((300, 300, 300, 4)))
    (part := tmp_path / "part").write_bytes(uploaded)
    held = Loaded(is_open=False)
    life = await live(engine=held.engine)
    with file_server() as origin:
        graph = loading_graph(
            origin.add("/a.png", fetched),
            base64.b64encode(inline).decode(),
            "upload://part",
            f"data:image/png;base64,{base64.b64encode(small).decode()}",
        )
        uploads = {"part": Uploaded(part, "0" * 64, ".png")}
        first = await life.accept(uploads, id="a", webhook_v2=there.url, prompt=graph)
    await life.end()
    part.unlink()
    await asyncio.to_thread(forget_cache, tmp_path / "cache")

    await live(engine=Loaded().engine)
    (message,) = await arrived(there)
    assert message["type"] == "prompt.complete"
    found = [base64.b64decode(image) for image in message["images"]]
    assert found == [fetched, inline, uploaded, small]
    assert message["prompt"]["2"] == first["prompt"]["2"]


def forget_cache(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()


async def test_what_a_request_says_beside_its_graph_holds_after_a_restart(
    live: Live, there: Receiver
) -> None:
    with receiving() as storage:
        life = await live(Gate())
        answer = await life.accept(
            id="a/b",
            webhook_v2=there.url,
            convert_output={"format": "webp", "options": {"quality": 50}},
            http_upload={"url_prefix": f"{storage.origin}/out", "async": False},
            timeout_s=30,
            priority=7,
            extra_data={"extra_pnginfo": {"workflow": {"a": 1}}},
        )
        await life.end()

        again = await live()
        (message,) = await arrived(there)
        (name,) = message["filenames"]
        assert name == "a_b_picture_00001_.webp"
        assert message["images"] == [f"{storage.origin}/out/{name}"]
        assert storage.received[f"/out/{name}"].media_type == "image/webp"
    (prompt,) = again.engine.prompts
    assert prompt.extra_data == {"extra_pnginfo": {"workflow": {"a": 1}}}
    echoed = answer.keys() - {"id", "status", "prompt"}
    assert {name: message[name] for name in echoed} == {name: answer[name] for name in echoed}
    assert echoed == {"webhook_v2", "convert_output", "http_upload", "timeout_s", "priority"}


async def test_a_job_with_api_keys_cannot_be_run_again_and_its_failure_says_so(
    live: Live, there: Receiver
) -> None:
    life = await live(Gate())
    extra = {"api_key_comfy_org": "geheim"}
    answer = await life.accept(id="a", webhook_v2=there.url, extra_data=extra)
    await life.end()
    again = await live()
    (message,) = await arrived(there)
    assert (message["type"], message["code"]) == ("prompt.failed", "crashed")
    assert "API keys" in message["error"]
    assert "send it again" in message["error"]
    assert message["prompt"] == answer["prompt"]
    assert again.engine.ran == []
    assert await again.unfinished() == []


async def test_a_job_whose_files_are_lost_is_announced(
    live: Live, there: Receiver, tmp_path: Path
) -> None:
    life = await live(Gate())
    image = base64.b64encode(png(1, 300)).decode()
    await life.accept(id="a", webhook_v2=there.url, prompt=loading_graph(image))
    await life.end()
    for path in (tmp_path / "state" / "files").iterdir():
        path.unlink()
    again = await live()
    (message,) = await arrived(there)
    assert (message["type"], message["code"]) == ("prompt.failed", "crashed")
    assert "files" in message["error"]
    assert again.engine.ran == []


async def test_a_job_whose_record_cannot_be_read_ends_and_stops_nobody_else(
    live: Live, there: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    life = await live(Gate())
    await life.journal.accept(NewJob("run", "odd", b"no JSON at all"))
    await life.accept(id="a", webhook_v2=there.url)
    await life.end()
    again = await live()
    assert [message["id"] for message in await arrived(there)] == ["a"]
    await eventually(lambda: "run cannot be read" in caplog.text)
    stored = await again.background.result("odd")
    assert stored is not None
    assert stored.meta["error"]["code"] == "crashed"
    assert await again.unfinished() == []


async def test_messages_due_at_the_end_are_sent_after_the_restart_under_the_same_id(
    live: Live,
) -> None:
    down = await Receiver([500, 500]).start()
    life = await live(accepting={"sleep": asleep, "key": check_secret(SECRET)})
    await life.accept(id="a", webhook_v2=down.url)
    await eventually(lambda: len(down.received) == 1)
    await life.end()
    await down.stop()

    up = await Receiver(port=down.port).start()
    await live(accepting={"key": check_secret(SECRET)})
    await arrived(up)
    await up.stop()
    (before,), (after,) = down.received, up.received
    assert (before.message_id, before.body) == (after.message_id, after.body)
    assert standardwebhooks.Webhook(SECRET).verify(after.body, after.headers)["id"] == "a"


async def test_a_receiver_that_answers_500_twice_gets_one_message_three_times(
    live: Live, there: Receiver
) -> None:
    there.answers = [500, 500]
    life = await live()
    await life.accept(webhook_v2=there.url)
    await eventually(lambda: len(there.received) == 3)
    assert len({(got.message_id, got.body) for got in there.received}) == 1
    deadline = asyncio.get_running_loop().time() + 5
    while await life.journal.due_messages():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)


async def test_a_receiver_that_is_down_for_a_while_gets_its_message(live: Live) -> None:
    place = await Receiver().start()
    await place.stop()
    up = Receiver(port=place.port)
    sleeper = Sleeper(nothing, up.start)
    life = await live(accepting={"sleep": sleeper})
    await life.accept(id="a", webhook_v2=place.url)
    (message,) = await arrived(up)
    await up.stop()
    assert message["id"] == "a"
    assert len(sleeper.slept) == 2


async def nothing() -> None:
    """Let a time pass in which nothing changes."""


async def test_the_older_webhook_is_told_of_each_output_after_a_restart_too(
    live: Live, there: Receiver
) -> None:
    async def two(play: Play) -> None:
        play.file("a.bin", b"a")
        play.file("b.bin", b"b")

    life = await live(Gate(), accepting={"key": check_secret(SECRET)})
    await life.accept(id="a", webhook=there.url)
    await life.end()
    await live(two, accepting={"key": check_secret(SECRET)})
    found = await arrived(there, 2)
    assert [(m["event"], m["filename"]) for m in found] == [
        ("output.complete", "a.bin"),
        ("output.complete", "b.bin"),
    ]
    assert all("webhook-signature" not in got.headers for got in there.received)


# Attempts


async def test_only_the_job_that_runs_has_used_an_attempt_when_the_process_ends(
    live: Live, there: Receiver
) -> None:
    life = await live(Gate())
    for name in ("runs", "next", "waits"):
        await life.accept(id=name, webhook_v2=there.url)
    await eventually(lambda: life.services.jobs.depth() == 3)
    await eventually(lambda: life.engine.ran == ["runs"])
    assert [(j.id, j.attempts) for j in await life.unfinished()] == [
        ("runs", 1),
        ("next", 0),
        ("waits", 0),
    ]


async def test_the_next_job_has_used_an_attempt_once_nothing_is_before_it(
    live: Live, there: Receiver
) -> None:
    first = asyncio.Event()

    async def script(play: Play) -> None:
        await (first.wait() if play.prompt.id == "first" else asyncio.Event().wait())
        play.image()

    life = await live(script)
    for name in ("first", "next"):
        await life.accept(id=name, webhook_v2=there.url)
    first.set()
    await arrived(there)
    await eventually(lambda: life.engine.ran == ["first", "next"])
    deadline = asyncio.get_running_loop().time() + 5
    while [(j.id, j.attempts) for j in await life.unfinished()] != [("next", 1)]:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)


async def test_a_job_that_is_let_go_of_before_it_has_run_gets_its_attempt_back(
    live: Live, there: Receiver
) -> None:
    """As where somebody else's prompts stand before it in ComfyUI's queue."""

    class Busy(FakeEngine):
        async def play(self, play: Play, ended: Callable[[], None]) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended()

    life = await live(engine=Busy())
    await life.accept(id="a", webhook_v2=there.url)
    deadline = asyncio.get_running_loop().time() + 5
    while [j.attempts for j in await life.unfinished()] != [1]:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)
    await life.end()
    again = await live(resume=False)
    assert [j.attempts for j in await again.unfinished()] == [0]


class Program:
    """A server in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.dying", str(folder)]
        temporary = folder / "tmp"  # Who is killed leaves its folders.
        temporary.mkdir(exist_ok=True)
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(temporary)}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        self.origin = ""

    async def started(self) -> Program:
        assert self.process.stdout is not None
        self.origin = (await asyncio.to_thread(self.process.stdout.readline)).strip()
        assert self.origin.startswith("http://"), "the server did not start"
        return self

    async def post(self, act: str, **fields: Any) -> int:
        wanted = graph()
        wanted["1"]["inputs"]["act"] = act
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.origin}/prompt", json={"prompt": wanted, **fields}) as response,
        ):
            await response.read()
            return response.status

    async def interrupt(self, caller_id: str) -> int:
        url = f"{self.origin}/interrupt"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json={"id": caller_id}) as response,
        ):
            return response.status

    async def died(self) -> int:
        return await asyncio.to_thread(self.process.wait, 20)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
async def program(tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[Program]]]:
    """Give what starts a server in a process of its own, always on the same folder."""
    programs: list[Program] = []

    async def start() -> Program:
        programs.append(Program(tmp_path))
        return await programs[-1].started()

    yield start
    for each in programs:
        each.end()


def begun(folder: Path) -> list[str]:
    """Return the ids of all runs that have begun, in order."""
    file = folder / "ran"
    return file.read_text().split() if file.exists() else []


async def test_a_job_that_kills_the_process_is_tried_twice_and_its_neighbours_are_run(
    program: Callable[[], Awaitable[Program]], there: Receiver, tmp_path: Path
) -> None:
    first = await program()
    for number, act in enumerate(["hold", "kill", "", "", ""]):
        assert await first.post(act, id=f"{number}", webhook_v2=there.url) == 202
    # Accepted is not started: a slow machine has accepted all five before the first one runs.
    await eventually(lambda: begun(tmp_path) == ["0"], 10)
    first.process.send_signal(signal.SIGKILL)
    assert await first.died() == -signal.SIGKILL

    # In any order: job 0 holds the worker until it is stopped, and the deadly one has its turns.
    deaths, is_stopped, server = 0, False, await program()
    deadline = asyncio.get_running_loop().time() + 60
    while len(there.received) < 5:
        assert asyncio.get_running_loop().time() < deadline
        if server.process.poll() is not None:
            assert await server.died() == -signal.SIGKILL
            deaths, server = deaths + 1, await program()
        elif not is_stopped and begun(tmp_path).count("0") == 2:
            assert await server.interrupt("0") == 200
            is_stopped = True
        await asyncio.sleep(0.01)
    assert deaths == 2

    found = {message["id"]: message for message in await arrived(there, 5)}
    assert found["0"]["code"] == "interrupted"
    assert (found["1"]["type"], found["1"]["code"]) == ("prompt.failed", "crashed")
    assert found["1"]["details"] == {"attempts": 2}
    assert [found[n]["type"] for n in "234"] == ["prompt.complete"] * 3
    runs = begun(tmp_path)
    assert {name: runs.count(name) for name in "01234"} == {
        "0": 2, "1": 2, "2": 1, "3": 1, "4": 1,
    }  # fmt: skip


async def test_what_was_due_when_the_process_was_killed_is_sent_under_the_same_id(
    program: Callable[[], Awaitable[Program]], there: Receiver
) -> None:
    there.answers = [never]
    first = await program()
    await first.post("", id="a", webhook_v2=there.url)
    await arrived(there)
    first.process.kill()
    await first.died()
    await program()
    await arrived(there, 2)
    assert len({(got.message_id, got.body) for got in there.received}) == 1


async def test_whenever_the_process_is_killed_every_accepted_job_ends_in_one_message(
    program: Callable[[], Awaitable[Program]], there: Receiver, tmp_path: Path
) -> None:
    """Jobs are sent all the time, and the receiver fails now and then."""
    accepted: set[str] = set()
    names = map(str, itertools.count())

    async def send(server: Program) -> None:
        for name in names:
            try:
                status = await server.post("", id=name, webhook_v2=there.url)
            except aiohttp.ClientError:
                return
            assert status == 202
            accepted.add(name)

    for _ in range(KILLS):
        there.answers += [500, 200] * 10
        server = await program()
        sending = [asyncio.ensure_future(send(server)) for _ in range(4)]
        before = len(accepted)
        await eventually(lambda before=before: len(accepted) > before + 5, within_s=20)  # type: ignore[misc]
        await asyncio.sleep(random.uniform(0, 0.2))
        server.process.kill()
        await asyncio.gather(*sending)
    await program()

    def told() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for message, got in zip(messages(there), there.received, strict=True):
            found.setdefault(message["id"], set()).add(got.message_id)
        return found

    await eventually(lambda: accepted <= told().keys(), within_s=30)
    assert {name: ids for name, ids in told().items() if len(ids) > 1} == {}
    ran = Counter((tmp_path / "ran").read_text().split())
    assert max(ran.values()) <= 2
    crashed = [m["id"] for m in messages(there) if m["type"] == "prompt.failed"]
    assert all(ran[name] <= 2 for name in crashed)
