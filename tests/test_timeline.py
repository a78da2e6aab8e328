from __future__ import annotations

import asyncio
import threading

from comfyui_stateless.timeline import Happening, Timeline
from tests.fakes import eventually


async def listen(timeline: Timeline, after: int = 0) -> list[Happening]:
    return [h async for h in timeline.follow(after, idle_s=5) if h is not None]


async def test_a_listener_hears_what_was_and_what_comes_until_the_end() -> None:
    timeline = Timeline()
    timeline.tell("queued", {"position": 1})
    listening = asyncio.ensure_future(listen(timeline))
    await eventually(lambda: timeline.is_followed)
    timeline.tell("started", {})
    timeline.close()
    heard = await listening
    assert [(h.number, h.name) for h in heard] == [(1, "queued"), (2, "started")]
    assert not timeline.is_followed


async def test_what_is_told_on_another_thread_wakes_a_listener() -> None:
    timeline = Timeline()
    listening = asyncio.ensure_future(listen(timeline))
    await eventually(lambda: timeline.is_followed)

    def work() -> None:
        for value in range(100):
            timeline.tell("output", {"value": value})
        timeline.close()

    thread = threading.Thread(target=work)
    thread.start()
    heard = await listening
    thread.join()
    assert [h.data["value"] for h in heard] == list(range(100))


async def test_only_the_latest_of_a_kind_is_kept() -> None:
    timeline = Timeline()
    for value in range(1000):
        timeline.tell("progress", {"value": value}, instead_of="3")
        timeline.tell("progress", {"value": -value}, instead_of="4")
    timeline.close()
    assert [(h.number, h.data["value"]) for h in await listen(timeline)] == [
        (1999, 999),
        (2000, -999),
    ]


async def test_a_listener_that_comes_back_hears_only_what_it_missed() -> None:
    timeline = Timeline()
    for name in ("queued", "started", "succeeded"):
        timeline.tell(name, {})
    timeline.close()
    assert [h.name for h in await listen(timeline, after=2)] == ["succeeded"]


async def test_a_listener_that_hears_nothing_for_a_while_is_told_so() -> None:
    timeline = Timeline()
    following = timeline.follow(idle_s=0.01)
    assert await following.__anext__() is None
    await following.aclose()
    assert not timeline.is_followed
