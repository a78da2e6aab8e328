from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from comfyui_stateless.config import system_metadata
from comfyui_stateless.system_events import SystemEvents
from comfyui_stateless.webhooks import SystemWebhook, check_secret
from tests.accepting import SECRET, Life, Live, lives, loading_graph, messages, png, soon
from tests.fakes import Play, eventually
from tests.storage.file_server import file_server
from tests.uploads.receiver import receiving
from tests.webhooks.receivers import Receiver

pytestmark = pytest.mark.usefixtures("plain_environment")

# The events of the specification, in ComfyUI's terms, as an engine tells them.
RUN_EVENTS: dict[str, dict[str, Any]] = {
    "execution_start": {"timestamp": 1705505423000},
    "execution_cached": {"nodes": ["1"], "timestamp": 1705505423000},
    "executing": {"node": "2", "display_node": "2"},
    "progress": {"value": 45, "max": 100, "node": "2"},
    "progress_state": {"nodes": {"2": {"value": 1, "max": 2, "prompt_id": "a/b"}}},
    "executed": {"node": "2", "display_node": "2", "output": {"images": []}},
    "execution_success": {"timestamp": 1705505423000},
    "execution_interrupted": {"node_id": "2", "node_type": "KSampler", "executed": []},
    "execution_error": {
        "node_id": "2",
        "node_type": "KSampler",
        "executed": [],
        "exception_message": "CUDA out of memory.",
        "exception_type": "RuntimeError",
        "traceback": "Traceback",
        "current_inputs": {"seed": 42},
        "current_outputs": [],
    },
}


@pytest.fixture
async def operator() -> AsyncIterator[Receiver]:
    receiver = await Receiver().start()
    yield receiver
    await receiver.stop()


Listened = Callable[..., Awaitable[tuple[Life, SystemEvents]]]


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    async for start in lives(tmp_path):
        yield start


@pytest.fixture
def listened(live: Live, operator: Receiver) -> Listened:
    """Give what starts a server whose operator listens."""

    async def start(script: Any, *wanted: str, **how: Any) -> tuple[Life, SystemEvents]:
        metadata = {"batch": "abc", "salad_machine_id": "m"}
        webhook = SystemWebhook(operator.url, frozenset(wanted or ["all"]), metadata)
        events = SystemEvents()
        accepting = {"system": webhook, "sleep": soon, "key": check_secret(SECRET)}
        life = await live(script, events=events, accepting=accepting, **how)
        events.emit = life.background.emit
        return life, events

    return start


async def run(life: Life, **fields: Any) -> None:
    """Run a job whose caller hears of it elsewhere."""
    there = await Receiver().start()
    await life.accept(**{"id": "a/b", "webhook_v2": there.url, **fields})
    await eventually(lambda: bool(there.received))
    await there.stop()


def told(operator: Receiver) -> dict[str, Any]:
    """Return what the operator was told, by event."""
    return {message["event"]: message["data"] for message in messages(operator)}


async def test_events_of_a_run_come_in_the_form_of_the_specification(
    listened: Listened, operator: Receiver
) -> None:
    async def plays(play: Play) -> None:
        for name, data in RUN_EVENTS.items():
            play.event(name, **data)
        play.image()

    life, _ = await listened(plays)
    await run(life)
    await eventually(lambda: len(operator.received) >= len(RUN_EVENTS))
    assert told(operator) == {
        f"comfy.{name}": {"type": name, "data": {"prompt_id": "a/b", **data}, "sid": "a/b"}
        for name, data in RUN_EVENTS.items()
    }
    for message, got in zip(messages(operator), operator.received, strict=True):
        assert message.keys() == {"event", "data", "metadata"}
        assert message["metadata"] == {"batch": "abc", "salad_machine_id": "m"}
        verified = standardwebhooks.Webhook(SECRET).verify(got.body, got.headers)
        assert verified["event"] == message["event"]
        assert got.message_id.startswith("msg_")


async def test_only_the_events_that_were_asked_for_come(
    listened: Listened, operator: Receiver
) -> None:
    async def plays(play: Play) -> None:
        for name, data in RUN_EVENTS.items():
            play.event(name, **data)
        play.event("preview", node="1", media_type="image/jpeg", image=b"jpeg")

    life, _ = await listened(plays, "execution_start", "executed")
    await run(life)
    await eventually(lambda: len(operator.received) == 2)
    await life.end()
    assert set(told(operator)) == {"comfy.execution_start", "comfy.executed"}


async def test_previews_are_no_system_events(listened: Listened, operator: Receiver) -> None:
    async def plays(play: Play) -> None:
        play.event("preview", node="1", media_type="image/jpeg", image=b"jpeg")
        play.observer.event("preview", {"node": "1", "media_type": "image/jpeg", "image": b""})
        play.event("execution_success", timestamp=1)

    life, _ = await listened(plays)
    webhooks = life.background._webhooks
    await run(life)
    await eventually(lambda: bool(operator.received))
    await life.end()
    assert set(told(operator)) == {"comfy.execution_success"}
    assert "dropped" not in webhooks.outcomes()


async def test_the_length_of_the_queue_is_told_in_comfyui_s_own_form(
    listened: Listened, operator: Receiver
) -> None:
    _, events = await listened(None)
    status = {"status": {"exec_info": {"queue_remaining": 3}}}
    events.status(status)
    await eventually(lambda: bool(operator.received))
    assert told(operator) == {"comfy.status": {"type": "status", "data": status, "sid": ""}}


async def test_events_of_a_run_may_come_from_any_thread(
    listened: Listened, operator: Receiver
) -> None:
    async def plays(play: Play) -> None:
        thread = threading.Thread(target=lambda: play.event("execution_success", timestamp=1))
        thread.start()
        await asyncio.to_thread(thread.join)

    life, _ = await listened(plays)
    await run(life)
    await eventually(lambda: bool(operator.received))
    assert set(told(operator)) == {"comfy.execution_success"}


async def test_files_that_come_and_go_and_are_uploaded_are_told_without_secrets(
    listened: Listened, operator: Receiver, tmp_path: Path
) -> None:
    async def plays(play: Play) -> None:
        play.file("a.bin", b"content")

    images = [png(n, 30) for n in range(2)]
    with file_server() as origin, receiving() as storage:
        kinds = ("file_downloaded", "file_uploaded", "file_deleted")
        life, _ = await listened(plays, *kinds, lru_cache_size_gb=1500 / 1024**3)
        for number, image in enumerate(images):
            host = origin.add(f"/{number}.png", image).removeprefix("http://")
            sent = loading_graph(f"http://user:geheim@{host}?sig=geheim")
            target = {"url_prefix": f"{storage.origin}/out?sig=geheim"}
            await run(life, prompt=sent, http_upload=target)
        await eventually(lambda: len(operator.received) >= 5)
        await life.end()
        found = messages(operator)
    assert b"geheim" not in b"".join(got.body for got in operator.received)
    downloads = [m["data"] for m in found if m["event"] == "storage.file_downloaded"]
    uploads = [m["data"] for m in found if m["event"] == "storage.file_uploaded"]
    deletions = [m["data"] for m in found if m["event"] == "storage.file_deleted"]
    assert [len(downloads), len(uploads), len(deletions)] == [2, 2, 1]
    for data in (*downloads, *uploads, *deletions):
        assert data.keys() == {"url", "local_path", "size", "duration"}
        assert isinstance(data["local_path"], str)
        assert isinstance(data["duration"], float)
    assert [data["url"] for data in downloads] == [
        f"{origin.origin}/{number}.png?\u2026" for number in range(2)
    ]
    assert [data["size"] for data in downloads] == [len(image) for image in images]
    assert Path(downloads[1]["local_path"]).parent == tmp_path / "cache"
    assert {data["url"] for data in uploads} == {f"{storage.origin}/out/a.bin"}
    assert uploads[0]["size"] == len(b"content")
    assert deletions[0]["local_path"] == downloads[0]["local_path"]
    assert deletions[0]["size"] == len(images[0])


async def test_without_a_webhook_of_the_operator_s_nothing_is_told(live: Live) -> None:
    async def plays(play: Play) -> None:
        assert not play.observer.wants("executed")
        play.event("executing", node="1")
        play.image()

    life = await live(plays)
    await run(life)
    await eventually(lambda: life.background._webhooks.outcomes() == {"delivered": 1})


async def test_what_happens_before_the_journal_is_open_is_told_to_nobody(
    listened: Listened, operator: Receiver
) -> None:
    life, events = await listened(None)
    await life.background.close()
    events.status({"status": {}})
    assert operator.received == []


def test_metadata_is_the_operator_s_and_saladcloud_s() -> None:
    environ = {
        "SYSTEM_META_batch": "abc",
        "SYSTEM_META_PURPOSE": "testing",
        "system_meta_lower": "too",
        "SALAD_MACHINE_ID": "machine",
        "SALAD_CONTAINER_GROUP_ID": "group",
        "SALAD_ORGANIZATION_NAME": "org",
        "SALAD_METADATA_URL": "http://169.254.169.254:80",
        "PATH": "/bin",
        "MY_SALAD_BOWL": "x",
    }
    assert system_metadata(environ) == {
        "batch": "abc",
        "PURPOSE": "testing",
        "lower": "too",
        "salad_machine_id": "machine",
        "salad_container_group_id": "group",
        "salad_organization_name": "org",
    }
