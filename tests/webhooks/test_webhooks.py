from __future__ import annotations

import asyncio
import base64
import gc
import itertools
import logging
import sqlite3
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from ipaddress import ip_network

import pytest
import standardwebhooks
from aiohttp import web

from comfyui_stateless.config import HttpAccess
from comfyui_stateless.errors import HostRefused, UnsupportedURL
from comfyui_stateless.journal import DueMessage, Message, NewJob, Source, new_message_id
from comfyui_stateless.journal.journal import Journal
from comfyui_stateless.storage.policy import Policy
from comfyui_stateless.webhooks import Signer, Timeouts, Webhooks, check_secret
from comfyui_stateless.webhooks.receivers import MAX_PER_RECEIVER
from tests.webhooks.conftest import StartReceiver, StartWebhooks
from tests.webhooks.receivers import (
    Digester,
    Receiver,
    Sleeper,
    asleep,
    bodies,
    free_port,
    never,
    until,
)

RUNS = itertools.count()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def due(journal: Journal, *messages: tuple[str, Source]) -> list[Message]:
    """Record a job with its messages as due."""
    run_id = f"run {next(RUNS)}"
    await journal.accept(NewJob(run_id, run_id, b"{}"))
    made = [DueMessage(new_message_id(), url, body) for url, body in messages]
    return await journal.finish(run_id, {}, made)


async def send(webhooks: Webhooks, journal: Journal, *messages: tuple[str, Source]) -> None:
    for message in await due(journal, *messages):
        webhooks.submit(message)


async def settled(journal: Journal, left: int = 0) -> None:
    """Wait until no more messages than ``left`` are due."""
    for _ in range(2000):
        if len(await journal.due_messages()) <= left:
            return
        await asyncio.sleep(0.005)
    raise AssertionError("messages are due for ever")


def redirect(status: int, location: str) -> web.Response:
    return web.Response(status=status, headers={"Location": location})


async def test_a_message_arrives_signed_once(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there = await receiver()
    webhooks = await sender(signer=Signer(check_secret(SECRET)))
    await send(webhooks, journal, (f"{there.url}?a=%2Fb%7E&c=d+e", b'{"id": 1}'))
    await settled(journal)

    (got,) = there.received
    assert got.path == "/hook?a=%2Fb%7E&c=d+e"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["content-length"] == "9"
    assert got.message_id.startswith("msg_")
    assert standardwebhooks.Webhook(SECRET).verify(got.body, got.headers) == {"id": 1}
    assert webhooks.outcomes() == {"delivered": 1}


async def test_without_a_secret_there_is_no_signature(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there = await receiver()
    await send(await sender(), journal, (there.url, b"{}"))
    await settled(journal)
    assert "webhook-signature" not in there.received[0].headers
    assert abs(int(there.received[0].headers["webhook-timestamp"]) - time.time()) < 60


async def test_user_and_password_in_the_url_become_a_header(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there = await receiver()
    url = there.url.replace("://", "://us%65r:p%40ss@")
    await send(await sender(), journal, (url, b"{}"))
    await settled(journal)
    expected = "Basic " + base64.b64encode(b"user:p@ss").decode()
    assert there.received[0].headers["authorization"] == expected


async def test_a_receiver_that_fails_twice_gets_the_same_message_thrice(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there, sleeper = await receiver(500, 503), Sleeper()
    webhooks = await sender(sleep=sleeper, uniform=lambda low, high: (low + high) / 2)
    await send(webhooks, journal, (there.url, b"{}"))
    await settled(journal)
    assert len({got.message_id for got in there.received}) == 1
    assert bodies(there.received) == [b"{}"] * 3
    assert sleeper.slept == pytest.approx([2, 12])
    assert webhooks.outcomes() == {"retried": 2, "delivered": 1}


async def test_jitter_is_drawn_for_every_retry(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there, sleeper = await receiver(500, 500, 500), Sleeper()
    await send(await sender(sleep=sleeper), journal, (there.url, b"{}"))
    await settled(journal)
    assert all(0.9 * n <= s <= 1.1 * n for s, n in zip(sleeper.slept, (2, 12, 60), strict=True))
    assert sleeper.slept != [2, 12, 60]


async def test_a_receiver_that_is_down_for_a_while_gets_it_when_it_is_up(
    journal: Journal, sender: StartWebhooks
) -> None:
    there = Receiver(port=free_port())

    async def nothing() -> None: ...

    sleeper = Sleeper(nothing, there.start)
    await send(await sender(sleep=sleeper), journal, (there.url, b"{}"))
    await settled(journal)
    await there.stop()
    assert len(sleeper.slept) == 2
    assert len(there.received) == 1


@pytest.mark.parametrize("retries", [0, 3, 5])
async def test_a_message_is_given_up_when_it_is_out_of_tries(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks, retries: int
) -> None:
    there = await receiver(*[500] * 10)
    webhooks = await sender(retries=retries)
    await send(webhooks, journal, (there.url, b"{}"))
    await settled(journal)
    (listed,) = await journal.given_up()
    assert len(there.received) == listed.attempts == retries + 1
    assert "500" in listed.error
    assert webhooks.outcomes()["given_up"] == 1


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_any_other_4xx_is_final(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks, status: int
) -> None:
    there = await receiver(status)
    await send(await sender(), journal, (there.url, b"{}"))
    await settled(journal)
    assert len(there.received) == 1
    assert [str(status) in m.error for m in await journal.given_up()] == [True]


async def test_retry_after_is_waited_for(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there = await receiver(web.Response(status=429, headers={"Retry-After": "77"}))
    sleeper = Sleeper()
    await send(await sender(sleep=sleeper), journal, (there.url, b"{}"))
    await settled(journal)
    assert sleeper.slept == [77]
    assert len(there.received) == 2


async def attempted(journal: Journal) -> None:
    """Wait until it is written down that a message was tried."""
    for _ in range(2000):
        if any(message.attempts for message in await journal.due_messages()):
            return
        await asyncio.sleep(0.005)
    raise AssertionError("no message was tried")


async def test_a_receiver_that_hangs_delays_nobody_else(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    hanging, quick = await receiver(*[never] * 50), await receiver()
    webhooks = await sender()
    for _ in range(20):
        await send(webhooks, journal, (hanging.url, b"{}"))
    for _ in range(20):
        await send(webhooks, journal, (quick.url, b"{}"))
    await until(lambda: len(quick.received) == 20)
    assert hanging.most_at_once == MAX_PER_RECEIVER
    await settled(journal, left=20)
    assert len(await journal.due_messages()) == 20


async def test_a_hanging_attempt_ends_and_is_tried_again(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there = await receiver(never)
    await send(await sender(timeouts=Timeouts(total_s=0.3)), journal, (there.url, b"{}"))
    await settled(journal)
    assert len(there.received) == 2


async def test_a_failing_receiver_gets_one_message_at_a_time(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    async def slowly() -> int:
        await asyncio.sleep(0.02)
        return 500

    there = await receiver(500, *[slowly] * 12)
    webhooks = await sender(retries=0)
    keep = webhooks._receivers.receiver(there.origin)
    await send(webhooks, journal, (there.url, b"{}"))
    others = [(await due(journal, (there.url, b"{}")))[0] for _ in range(12)]
    await until(lambda: keep.is_failing)
    for other in others:
        webhooks.submit(other)
    await settled(journal)
    assert there.most_at_once == 1


async def test_messages_of_one_job_arrive_in_their_order(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there = await receiver()
    numbered = [(there.url, str(number).encode()) for number in range(20)]
    await send(await sender(), journal, *numbered)
    await settled(journal)
    assert bodies(there.received) == [body for _, body in numbered]


async def test_a_message_that_failed_holds_up_no_other_of_its_job(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there = await receiver(500)
    await send(await sender(sleep=asleep), journal, (there.url, b"1"), (there.url, b"2"))
    await until(lambda: len(there.received) == 2)
    assert bodies(there.received) == [b"1", b"2"]


async def test_what_was_due_is_sent_after_a_restart_with_the_same_id(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there, sleeper = await receiver(500, 500, 500, 500), Sleeper()
    first = await sender(sleep=asleep)
    await send(first, journal, (there.url, b"{}"))
    await attempted(journal)
    await first.close()

    await sender(sleep=sleeper, uniform=lambda low, high: (low + high) / 2)
    await settled(journal)
    assert len({got.message_id for got in there.received}) == 1
    assert len(there.received) == 4
    assert sleeper.slept == pytest.approx([2, 12, 60], rel=0.11)
    assert (await journal.given_up())[0].attempts == 4


@contextmanager
def locked(journal: Journal) -> Iterator[Callable[[], Awaitable[object]]]:
    """Have another lock the database; give what ends that."""
    journal._database.write_side.execute("PRAGMA busy_timeout = 20")
    path = journal.folder / "journal.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        async def unlock() -> None:
            other.execute("ROLLBACK")

        yield unlock


@pytest.mark.parametrize("status", [200, 404])
async def test_how_a_message_ended_is_noted_once_a_locked_journal_takes_it(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks, status: int
) -> None:
    there = await receiver(status)
    await due(journal, (there.url, b"{}"))
    with locked(journal) as unlock:
        sleeper = Sleeper(partial(asyncio.sleep, 0), unlock)
        webhooks = await sender(sleep=sleeper)
        await settled(journal)
    await webhooks.close()
    assert len(await journal.given_up()) == (status == 404)
    await sender()
    assert len(there.received) == 1
    assert sleeper.slept[:2] == [5, 10]


async def test_a_message_whose_end_was_never_noted_comes_again_under_its_id(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there = await receiver(200, 200)
    await due(journal, (there.url, b"{}"))
    with locked(journal) as unlock:
        webhooks = await sender(sleep=asleep)
        await until(lambda: webhooks._asleep)
        await asyncio.wait_for(webhooks.close(grace_s=30), 10)
        await unlock()
    await sender()
    await settled(journal)
    assert len({got.message_id for got in there.received}) == 1
    assert len(there.received) == 2


async def test_closing_waits_for_what_is_being_sent(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    arrived, answered = asyncio.Event(), asyncio.Event()

    async def when_told() -> int:
        arrived.set()
        await answered.wait()
        return 200

    there = await receiver(when_told)
    webhooks = await sender()
    await send(webhooks, journal, (there.url, b"{}"))
    await arrived.wait()
    closing = asyncio.create_task(webhooks.close(grace_s=30))
    await asyncio.sleep(0.02)
    answered.set()
    await closing
    assert await journal.due_messages() == []


async def test_closing_does_not_wait_longer_than_its_grace(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there = await receiver(never)
    webhooks = await sender()
    await send(webhooks, journal, (there.url, b"{}"))
    await until(lambda: there.received)
    await asyncio.wait_for(webhooks.close(grace_s=0.05), 10)
    assert len(await journal.due_messages()) == 1


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_that_keeps_the_method_is_followed(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks, status: int
) -> None:
    there = await receiver()
    first = await receiver(redirect(status, f"{there.origin}/new?x=1"))
    url = first.url.replace("://", "://user:geheim@")
    await send(await sender(signer=Signer(check_secret(SECRET))), journal, (url, b'{"a": 1}'))
    await settled(journal)
    (got,) = there.received
    assert got.path == "/new?x=1"
    assert standardwebhooks.Webhook(SECRET).verify(got.body, got.headers) == {"a": 1}
    assert "authorization" not in got.headers
    assert await journal.given_up() == []


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_redirect_that_may_change_the_method_is_final(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks, status: int
) -> None:
    there = await receiver()
    first = await receiver(redirect(status, there.url))
    await send(await sender(), journal, (first.url, b"{}"))
    await settled(journal)
    assert (len(first.received), there.received) == (1, [])
    assert len(await journal.given_up()) == 1


async def test_a_redirect_without_end_is_given_up(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there = await receiver(*(redirect(307, "/again") for _ in range(50)))
    await send(await sender(), journal, (there.url, b"{}"))
    await settled(journal)
    assert len(there.received) == 6
    assert len(await journal.given_up()) == 1


@pytest.mark.parametrize(
    "place",
    [
        "http://10.1.2.3/", "other", "ftp://a.example/", "http://\\", "http://[", "http://[::1",
        "http://a.example:99999/", "http://169.254.169.254/latest", "file:///etc/passwd",
    ],
)  # fmt: skip
async def test_a_redirect_to_where_the_policy_refuses_is_final(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks, place: str
) -> None:
    other = await receiver()
    first = await receiver(redirect(307, other.url if place == "other" else place))
    policy = Policy(HttpAccess(trusted=frozenset({first.origin})))
    await send(await sender(policy), journal, (first.url, b"{}"))
    await settled(journal)
    assert (len(first.received), other.received) == (1, [])
    assert len(await journal.given_up()) == 1


async def test_a_name_that_is_rebound_to_a_private_address_is_refused(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there = await receiver(500)
    found = [["127.0.0.1"], ["127.0.0.1"], ["10.0.0.1"]]
    policy = Policy(
        HttpAccess(),
        resolve=lambda host, port: found.pop(0),
        refused=[ip_network("10.0.0.0/8")],
    )
    webhooks = await sender(policy)
    url = f"http://rebinding.example:{there.port}/hook"
    await webhooks.check_url(url)
    await send(webhooks, journal, (url, b"{}"))
    await settled(journal)
    assert [got.headers["host"] for got in there.received] == [f"rebinding.example:{there.port}"]
    assert "10.0.0.1" in (await journal.given_up())[0].error


async def test_a_name_that_does_not_resolve_is_tried_again(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there = await receiver()
    found: list[list[str]] = [[], [], ["127.0.0.1"]]
    policy = Policy(HttpAccess(), resolve=lambda host, port: found.pop(0), refused=[])
    webhooks = await sender(policy)
    await webhooks.check_url(f"http://later.example:{there.port}/")
    await send(webhooks, journal, (f"http://later.example:{there.port}/", b"{}"))
    await settled(journal)
    assert len(there.received) == 1


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("ftp://receiver.example/", UnsupportedURL),
        ("file:///etc/passwd", UnsupportedURL),
        ("receiver.example/hook", UnsupportedURL),
        ("http:///hook", UnsupportedURL),
        ("http://127.0.0.1/hook", HostRefused),
        ("http://127.1/hook", HostRefused),
        ("http://2130706433/hook", HostRefused),
        ("http://[::ffff:10.0.0.1]/hook", HostRefused),
        ("http://169.254.169.254/latest", HostRefused),
    ],
)
async def test_a_url_that_can_never_be_delivered_to_is_refused_at_once(
    sender: StartWebhooks, url: str, error: type[Exception]
) -> None:
    webhooks = await sender(Policy(HttpAccess()))
    with pytest.raises(error):
        await webhooks.check_url(url)


async def test_odd_spellings_of_private_addresses_are_never_connected_to(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there = await receiver()
    webhooks = await sender(Policy(HttpAccess()))
    hosts = ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "localhost", "[::1]"]
    for host in hosts:
        await send(webhooks, journal, (f"http://{host}:{there.port}/", b"{}"))
    await settled(journal)
    assert there.received == []
    assert len(await journal.given_up()) == len(hosts)


async def test_no_secret_of_a_url_reaches_the_log_or_the_list(
    journal: Journal,
    receiver: StartReceiver,
    sender: StartWebhooks,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    there = await receiver(500, 404)
    secret = "/hook?token=geheim"
    down = f"http://user:geheim@127.0.0.1:{free_port()}{secret}"
    webhooks = await sender(signer=Signer(b"geheim"))
    await send(webhooks, journal, (f"{there.origin}{secret}", b"geheim"), (down, b"geheim"))
    await settled(journal)
    assert caplog.records
    ours = [r for r in caplog.records if r.name.startswith("comfyui_stateless")]
    assert len(ours) >= 5
    assert "geheim" not in caplog.text
    assert "geheim" not in "".join(m.error for m in await journal.given_up())


async def test_a_large_body_is_signed_and_sent_in_bounded_memory(
    journal: Journal, sender: StartWebhooks
) -> None:
    size = 200 * 1024 * 1024
    chunk = bytes(1024 * 1024)

    def made() -> Iterator[bytes]:
        for _ in range(size // len(chunk)):
            yield chunk

    there = Digester(key=check_secret(SECRET))
    await there.start()
    webhooks = await sender(signer=Signer(check_secret(SECRET)))
    gc.collect()
    tracemalloc.start()
    try:
        await send(webhooks, journal, (there.url, made()))
        await settled(journal)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        await there.stop()
    signature = base64.b64encode(there.signature).decode()
    assert there.length == size
    headers = {name.lower(): value for name, value in there.received[0].headers.items()}
    assert headers["webhook-signature"] == f"v1,{signature}"
    assert headers["content-length"] == str(size)
    assert peak < 16 * 1024 * 1024


async def test_a_message_whose_receiver_is_quick_takes_no_sleep(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    there, sleeper = await receiver(), Sleeper()
    await send(await sender(sleep=sleeper), journal, (there.url, b"{}"))
    await settled(journal)
    assert sleeper.slept == []


async def test_an_answer_that_never_ends_counts_by_its_status(
    journal: Journal, receiver: StartReceiver, sender: StartWebhooks
) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\nx")
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await send(await sender(), journal, (f"http://127.0.0.1:{port}/", b"{}"))
    await settled(journal)
    assert await journal.given_up() == []
    server.close()
    await server.wait_closed()
