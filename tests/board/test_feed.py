from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from comfyui_stateless.board import feed as feeds
from comfyui_stateless.board.feed import GROUP, Feed, frame

WHOLE = b"event: snapshot\ndata: {}\n\n"


def told(feed: Feed, key: str, value: Any) -> bytes:
    feed.put(key, "job", {"value": value})
    feed.wake()
    return frame("job", {"value": value})


async def read(events: AsyncGenerator[bytes | None, None]) -> bytes | None:
    return await asyncio.wait_for(events.__anext__(), 5)


def test_an_event_is_one_line_of_json() -> None:
    said = frame("job", {"id": "a\nevent: x\r\n\n\u2028"})
    assert said == 'event: job\ndata: {"id":"a\\nevent: x\\r\\n\\n\u2028"}\n\n'.encode()


async def test_a_reader_gets_the_snapshot_and_then_what_comes() -> None:
    feed = Feed(lambda: WHOLE)
    told(feed, "a", 0)
    events = feed.follow(idle_s=10)
    assert await read(events) == WHOLE
    for value in (1, 2):
        assert await read_after(feed, events, "a", value) == frame("job", {"value": value})
    await events.aclose()


async def read_after(
    feed: Feed, events: AsyncGenerator[bytes | None, None], key: str, value: int
) -> bytes | None:
    reading = asyncio.ensure_future(read(events))
    await asyncio.sleep(0)
    told(feed, key, value)
    return await reading


async def test_a_slow_reader_gets_the_latest_of_each_key_in_the_order_in_which_they_came() -> None:
    feed = Feed(lambda: WHOLE)
    events = feed.follow(idle_s=10)
    await read(events)
    for value in range(50):
        told(feed, "a", value)
        told(feed, "b", value)
    told(feed, "a", "last")
    assert await read(events) == frame("job", {"value": 49}) + frame("job", {"value": "last"})
    await events.aclose()


async def test_a_reader_who_is_too_far_behind_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "KEPT", 3)
    feed = Feed(lambda: WHOLE)
    events = feed.follow(idle_s=10)
    await read(events)
    for key in "abcd":
        told(feed, key, 0)
    assert await read(events) == WHOLE
    assert await read_after(feed, events, "e", 1) == frame("job", {"value": 1})
    await events.aclose()


async def test_every_event_is_written_once_for_all_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def counted(name: str, data: Any) -> bytes:
        written.append(name)
        return frame(name, data)

    monkeypatch.setattr(feeds, "frame", counted)
    feed = Feed(lambda: counted("snapshot", {}))
    readers = [feed.follow(idle_s=10) for _ in range(100)]
    assert len({await read(reader) for reader in readers}) == 1
    reading = [asyncio.ensure_future(read(reader)) for reader in readers]
    await asyncio.sleep(0)
    told(feed, "a", 1)
    assert len(set(await asyncio.gather(*reading))) == 1
    assert written == ["snapshot", "job"]
    for reader in readers:
        await reader.aclose()


async def test_a_new_reader_s_snapshot_is_never_older_than_what_was_told() -> None:
    state = {"value": 0}
    feed = Feed(lambda: frame("snapshot", state))
    early = feed.follow(idle_s=10)
    assert await read(early) == frame("snapshot", {"value": 0})
    state["value"] = 1
    told(feed, "a", 1)
    late = feed.follow(idle_s=10)
    assert await read(late) == frame("snapshot", {"value": 1})
    await early.aclose()
    await late.aclose()


async def test_nothing_is_yielded_where_nothing_comes() -> None:
    events = Feed(lambda: WHOLE).follow(idle_s=0.01)
    assert await read(events) == WHOLE
    assert [await read(events) for _ in range(3)] == [None] * 3
    await events.aclose()


async def test_many_readers_are_woken_a_few_at_a_time() -> None:
    feed = Feed(lambda: WHOLE)
    readers = [feed.follow(idle_s=60) for _ in range(5 * GROUP)]
    for reader in readers:
        assert await read(reader) == WHOLE
    tasks = [asyncio.ensure_future(reader.__anext__()) for reader in readers]
    await asyncio.sleep(0)
    told(feed, "a", 1)
    done = [0]
    while done[-1] < len(tasks):
        await asyncio.sleep(0)
        done.append(sum(task.done() for task in tasks))
    assert max(after - before for before, after in itertools.pairwise(done)) <= GROUP
    assert {await task for task in tasks} == {frame("job", {"value": 1})}
    for reader in readers:
        await reader.aclose()


async def test_readers_who_hear_nothing_leave_nothing_behind() -> None:
    feed = Feed(lambda: WHOLE)
    reader = feed.follow(idle_s=0)
    assert await read(reader) == WHOLE
    assert [await read(reader) for _ in range(50)] == [None] * 50
    assert not feed._waiting
    await reader.aclose()
