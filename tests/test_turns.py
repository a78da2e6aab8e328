from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from comfyui_stateless.errors import StorageError
from comfyui_stateless.turns import PLACES, Turn, Turns


class Count:
    """Counts an attempt, when it is let."""

    def __init__(self, *, is_open: bool = True, error: Exception | None = None) -> None:
        self.begun = 0
        self.is_open = asyncio.Event()
        self._error = error
        if is_open:
            self.is_open.set()

    async def __call__(self) -> None:
        self.begun += 1
        await self.is_open.wait()
        if self._error is not None:
            raise self._error


@pytest.fixture
def turns() -> Turns:
    return Turns()


async def soon(condition: Callable[[], object]) -> None:
    for _ in range(100):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")


async def never(condition: Callable[[], object]) -> None:
    for _ in range(20):
        assert not condition()
        await asyncio.sleep(0)


def waiting(
    turns: Turns, run_id: str, count: Count | None = None, priority: int = 0
) -> asyncio.Task[Turn]:
    return asyncio.ensure_future(turns.wait(run_id, priority, count))


async def test_runs_that_are_not_counted_are_handed_over_two_at_a_time(turns: Turns) -> None:
    held = [await turns.wait(f"{n}", 0) for n in range(PLACES)]
    third = waiting(turns, "third")
    await never(third.done)
    held[1].release()
    await third


async def test_a_run_that_is_counted_waits_until_nothing_of_ours_is_there(turns: Turns) -> None:
    first, count = await turns.wait("first", 0), Count()
    second = waiting(turns, "second", count)
    await never(second.done)
    assert count.begun == 0
    first.release()
    await second
    assert count.begun == 1


async def test_what_comes_behind_a_run_that_is_counted_does_not_overtake_it(turns: Turns) -> None:
    first, count = await turns.wait("first", 0), Count(is_open=False)
    counted, behind = waiting(turns, "counted", count), waiting(turns, "behind")
    await never(lambda: counted.done() or behind.done())
    first.release()
    await soon(lambda: count.begun)
    await never(lambda: counted.done() or behind.done())
    count.is_open.set()
    await asyncio.gather(counted, behind)


async def test_a_higher_priority_comes_before_a_run_that_is_counted(turns: Turns) -> None:
    first, count = await turns.wait("first", 0), Count()
    counted = waiting(turns, "counted", count)
    await never(counted.done)
    urgent = await turns.wait("urgent", 1)
    assert [turns.position(n) for n in ("first", "urgent", "counted", "other")] == [0, 1, 2, None]
    first.release()
    await never(counted.done)
    urgent.release()
    await counted


async def test_a_run_that_is_cancelled_while_it_is_counted_gives_its_place_back(
    turns: Turns,
) -> None:
    count = Count(is_open=False)
    counted, behind = waiting(turns, "counted", count), waiting(turns, "behind")
    await soon(lambda: count.begun)
    counted.cancel()
    await behind
    assert turns.position("counted") is None


async def test_runs_that_are_cancelled_while_they_wait_are_forgotten(turns: Turns) -> None:
    held = [await turns.wait(f"{n}", 0) for n in range(PLACES)]
    gone = [waiting(turns, f"gone-{n}", Count() if n % 2 else None) for n in range(6)]
    last = waiting(turns, "last")
    await never(last.done)
    assert turns.position("last") == PLACES + 6
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    assert turns.position("last") == PLACES
    held[0].release()
    await last


async def test_an_attempt_that_cannot_be_counted_is_made_and_logged(
    turns: Turns, caplog: pytest.LogCaptureFixture
) -> None:
    await turns.wait("run", 0, Count(error=StorageError("disk full.")))
    assert "disk full" in caplog.text


async def test_those_who_wait_are_told_how_many_are_before_them(turns: Turns) -> None:
    told: list[int] = []
    for n in range(PLACES):
        await turns.wait(f"{n}", 0, None, told.append)
    tasks = [asyncio.ensure_future(turns.wait(f"w{n}", 0, None, told.append)) for n in range(3)]
    await soon(lambda: len(told) == 4)
    assert told == [1, 2, 3, 4]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_that_waits_is_told_of_those_alone_that_run_before_it(turns: Turns) -> None:
    told: list[int] = []
    for n in range(PLACES):
        await turns.wait(f"{n}", 0)
    tasks = [waiting(turns, f"w{n}", priority=n) for n in range(3)]
    await soon(lambda: turns.position("w0") == PLACES + 2)
    tasks[1].cancel()
    await soon(lambda: turns.position("w1") is None)
    tasks.append(asyncio.ensure_future(turns.wait("urgent", 1, None, told.append)))
    await soon(lambda: told)
    assert told == [PLACES + 1] == [turns.position("urgent")]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_that_comes_when_others_gave_up_is_told_of_those_alone_that_wait(
    turns: Turns,
) -> None:
    for number in range(PLACES):
        await turns.wait(f"held {number}", 0)
    gone = [waiting(turns, f"gone {priority}", priority=priority) for priority in (0, 1, 0)]
    await soon(lambda: turns.position("gone 1") is not None)
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    told: list[int] = []
    last = asyncio.ensure_future(turns.wait("last", 0, None, told.append))
    await soon(lambda: told)
    assert told == [PLACES] == [turns.position("last")]
    last.cancel()
