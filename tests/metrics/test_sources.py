from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from comfyui_stateless.errors import StorageError
from comfyui_stateless.metrics import sources
from comfyui_stateless.metrics.sources import Source

Make = Callable[[Callable[[], Awaitable[int]]], Source[int]]


@pytest.fixture
def failed() -> list[str]:
    return []


@pytest.fixture
async def source(failed: list[str]) -> AsyncIterator[Make]:
    made: list[Source[int]] = []

    def make(ask: Callable[[], Awaitable[int]]) -> Source[int]:
        made.append(Source("disk", ask, failed.append))
        return made[-1]

    yield make
    for each in made:
        await each.close()


async def test_it_gives_the_answer_anew_each_time(source: Make, failed: list[str]) -> None:
    answers = iter([1, 2])

    async def ask() -> int:
        return next(answers)

    asked = source(ask)
    assert [await asked.read(), await asked.read()] == [1, 2]
    assert failed == []


@pytest.mark.parametrize("error", [StorageError("No."), OSError("no"), RuntimeError("what?")])
async def test_an_error_is_no_answer_and_the_next_time_it_is_asked_again(
    source: Make, failed: list[str], error: Exception
) -> None:
    errors = [error]

    async def ask() -> int:
        if errors:
            raise errors.pop()
        return 7

    asked = source(ask)
    assert await asked.read() is None
    assert failed == ["disk"]
    assert await asked.read() == 7


async def test_one_that_hangs_is_asked_once_and_holds_nobody_up(
    source: Make, failed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "WITHIN_S", 0.02)
    asked, answer = [], asyncio.Event()

    async def ask() -> int:
        asked.append(1)
        await answer.wait()
        return 7

    hanging = source(ask)
    assert await asyncio.gather(*(hanging.read() for _ in range(5))) == [None] * 5
    assert (len(asked), failed) == (1, ["disk"] * 5)
    answer.set()
    assert await hanging.read() == 7
