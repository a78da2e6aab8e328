from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

import pytest
import standardwebhooks

from comfyui_stateless.config import HttpAccess
from comfyui_stateless.storage.policy import Policy
from comfyui_stateless.webhooks import Signer, SystemWebhook, check_secret
from comfyui_stateless.webhooks.system import MAX_WAITING, MAX_WAITING_BYTES
from tests.webhooks.conftest import StartReceiver, StartWebhooks
from tests.webhooks.receivers import Receiver, asleep, never, until

NOWHERE = Policy(HttpAccess())
SECRET = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def webhook(there: Receiver, *events: str, **metadata: str) -> SystemWebhook:
    return SystemWebhook(f"{there.url}?token=geheim", frozenset(events or ["all"]), metadata)


def told(there: Receiver) -> list[tuple[str, Any]]:
    """Return the events that a receiver got, with their data."""
    messages = [json.loads(got.body) for got in there.received]
    return [(message["event"], message["data"]) for message in messages]


def arrived(there: Receiver, count: int) -> bool:
    return len(there.received) == count


class Gate:
    """An answer that is given when the gate is opened."""

    def __init__(self) -> None:
        self._open = asyncio.Event()

    def open(self) -> None:
        self._open.set()

    async def __call__(self) -> int:
        await self._open.wait()
        return 200


async def test_an_event_reaches_the_operator_s_webhook_where_no_other_would(
    receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there = await receiver()
    webhooks = await sender(
        NOWHERE, system=webhook(there, batch="abc"), signer=Signer(check_secret(SECRET))
    )
    webhooks.emit("executed", {"node": "9"}, "job")
    await until(lambda: there.received)
    (got,) = there.received
    assert standardwebhooks.Webhook(SECRET).verify(got.body, got.headers) == {
        "event": "comfy.executed",
        "data": {"node": "9"},
        "metadata": {"batch": "abc"},
    }
    assert got.message_id.startswith("msg_")


async def test_only_the_events_that_were_asked_for_are_sent(
    receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there = await receiver()
    webhooks = await sender(system=webhook(there, "execution_start", "file_uploaded"))
    for event in ("progress", "executed", "execution_start", "file_deleted", "file_uploaded"):
        webhooks.emit(event, {})
    await until(lambda: len(there.received) >= 2)
    await webhooks.close(grace_s=5)
    assert told(there) == [("comfy.execution_start", {}), ("storage.file_uploaded", {})]


async def test_without_an_address_events_go_nowhere(sender: StartWebhooks) -> None:
    webhooks = await sender()
    webhooks.emit("executed", {})
    assert webhooks.outcomes() == {}


async def test_an_event_is_tried_again_and_progress_is_not(
    receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there = await receiver(500, 500, 500, 500)
    webhooks = await sender(system=webhook(there))
    for event in ("progress", "progress_state", "status"):
        webhooks.emit(event, {}, "job")
    webhooks.emit("executed", {}, "job")
    await until(lambda: webhooks.outcomes().get("delivered"))
    assert [event.removeprefix("comfy.") for event, _ in told(there)] == [
        "progress",
        "progress_state",
        "status",
        "executed",
        "executed",
    ]
    assert there.received[3].message_id == there.received[4].message_id


async def test_progress_that_waits_gives_way_to_the_latest_of_its_kind_and_job(
    receiver: StartReceiver, sender: StartWebhooks
) -> None:
    gate = Gate()
    there = await receiver(*[gate] * 2)
    webhooks = await sender(system=webhook(there))
    for job in ("a", "b"):
        webhooks.emit("execution_start", {"job": job}, job)
    await until(lambda: len(there.received) == 2)
    for value in range(1000):
        for job in ("a", "b"):
            webhooks.emit("progress", {"job": job, "value": value}, job)
        webhooks.emit("progress_state", {"job": "a", "value": value}, "a")
    webhooks.emit("execution_success", {"job": "a"}, "a")
    gate.open()
    await until(lambda: len(there.received) == 6)
    await webhooks.close(grace_s=5)

    events = told(there)[2:]
    assert [event for event, data in events if data["job"] == "a"] == [
        "comfy.progress",
        "comfy.progress_state",
        "comfy.execution_success",
    ]
    assert sorted(data["value"] for _, data in events if "value" in data) == [999] * 3
    assert webhooks.outcomes() == {"delivered": 6, "thinned": 3 * 999}


async def test_progress_goes_on_after_it_was_sent(
    receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there = await receiver()
    webhooks = await sender(system=webhook(there))
    for value in range(3):
        webhooks.emit("progress", {"value": value}, "job")
        await until(partial(arrived, there, value + 1))
    assert [data["value"] for _, data in told(there)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("size", "fitting"), [(10, MAX_WAITING), (MAX_WAITING_BYTES // 8, 7)], ids=["many", "large"]
)
async def test_events_for_a_receiver_that_is_down_are_bounded(
    receiver: StartReceiver,
    sender: StartWebhooks,
    caplog: pytest.LogCaptureFixture,
    size: int,
    fitting: int,
) -> None:
    there = await receiver(*[never] * 10)
    webhooks = await sender(system=webhook(there), sleep=asleep)
    for _ in range(fitting + 20):
        webhooks.emit("executed", "x" * size)
    assert webhooks.outcomes() == {"dropped": 20}
    assert len(webhooks._tasks) == fitting
    assert len(caplog.records) == 1


async def test_there_is_room_again_when_messages_have_arrived(
    receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there = await receiver()
    webhooks = await sender(system=webhook(there))
    for _ in range(2):
        for _ in range(5):
            webhooks.emit("executed", "x" * (MAX_WAITING_BYTES // 6))
        await until(lambda: not webhooks._tasks)
    assert webhooks.outcomes() == {"delivered": 10}


async def test_an_event_that_is_no_json_is_dropped_and_raises_nothing(
    receiver: StartReceiver, sender: StartWebhooks, caplog: pytest.LogCaptureFixture
) -> None:
    there = await receiver()
    webhooks = await sender(system=webhook(there))
    webhooks.emit("executed", {"image": b"bytes"})
    assert webhooks.outcomes() == {"dropped": 1}
    assert "executed" in caplog.text


async def test_the_operator_s_address_is_in_no_repr(receiver: StartReceiver) -> None:
    assert "geheim" not in repr(webhook(await receiver()))
