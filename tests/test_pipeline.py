from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from comfyui_stateless import pipeline
from comfyui_stateless.engine import CapturedImage, PromptResult
from comfyui_stateless.errors import ExecutionError, ExecutionInterrupted, InvalidPrompt
from comfyui_stateless.jobs import JobState
from comfyui_stateless.outputs import SMALL_BYTES
from comfyui_stateless.pipeline import Services
from comfyui_stateless.requests import PromptRequest
from comfyui_stateless.turns import PLACES
from tests.fakes import FakeEngine, Play, eventually, graph
from tests.wiring import end, services_for

pytestmark = pytest.mark.usefixtures("plain_environment")

Make = Callable[[FakeEngine], Services]


@pytest.fixture
async def services_of(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[Services] = []

    def of(engine: FakeEngine) -> Services:
        made.append(services_for(engine, tmp_path))
        return made[-1]

    yield of
    for services in made:
        await end(services)


async def run(
    services: Services, states: list[JobState] | None = None, **fields: Any
) -> PromptResult:
    request = PromptRequest(prompt=graph(), **fields)
    with services.jobs.open(request) as job:
        async with services.engine.workspace(job.run_id) as workspace:
            try:
                return await services.jobs.finish(
                    job, lambda: pipeline.run(request, services, job, workspace)
                )
            finally:
                if states is not None:
                    states.append(job.state)


async def test_a_request_becomes_a_result(services_of: Make) -> None:
    engine = FakeEngine()
    result = await run(services_of(engine), id="a", priority=1)
    assert result.id == "a"
    assert result.prompt["2"]["inputs"]["filename_prefix"] == "a_picture"
    assert [output.filename for output in result.outputs] == ["a_picture_00001_.png"]
    assert result.echo == {"priority": 1}


async def test_stats_name_every_stage_in_whole_milliseconds(services_of: Make) -> None:
    async def slow(play: Play) -> None:
        await asyncio.sleep(0.03)
        play.image()

    stats = dict((await run(services_of(FakeEngine(slow)))).stats)
    execution = stats.pop("comfy_execution")
    assert all(type(value) is int and value >= 0 for value in stats.values())
    assert set(stats) == {
        "queue_time", "preprocess_time", "comfy_round_trip_time", "postprocess_time",
        "upload_time", "total_time",
    }  # fmt: skip
    assert execution["duration"] == execution["end"] - execution["start"]
    assert execution["duration"] >= 30
    assert {key: execution[key] for key in ("start", "end", "duration")} == execution["total"]
    assert set(execution["nodes"]) == {"1", "2"}
    assert execution["nodes"]["2"]["cached"] is False
    assert stats["total_time"] >= stats["comfy_round_trip_time"] >= 30


async def test_what_validation_refuses_does_not_run(services_of: Make) -> None:
    engine = FakeEngine(invalid=InvalidPrompt("No."))
    with pytest.raises(InvalidPrompt):
        await run(services_of(engine))
    assert engine.ran == []


async def test_a_failed_run_gives_its_place_to_the_next(services_of: Make) -> None:
    async def fail(play: Play) -> None:
        raise ExecutionError("No.")

    engine = FakeEngine(fail)
    services = services_of(engine)
    for _ in range(PLACES + 1):
        with pytest.raises(ExecutionError):
            await run(services)
    assert services.jobs.depth() == 0


async def test_the_place_is_free_while_outputs_are_still_encoded(services_of: Make) -> None:
    encoded = threading.Event()

    def wait_to_be_encoded() -> tuple[tuple[str, str], ...]:
        assert encoded.wait(5)
        return ()

    async def slow_to_encode(play: Play) -> None:
        pixels = np.zeros((SMALL_BYTES, 1, 3), np.uint8)
        play.observer.image(CapturedImage("2", "a.png", False, pixels, wait_to_be_encoded))

    engine = FakeEngine(slow_to_encode)
    services = services_of(engine)
    tasks = [asyncio.ensure_future(run(services)) for _ in range(PLACES * 3)]
    await eventually(lambda: len(engine.ran) == PLACES * 3)
    assert not any(task.done() for task in tasks)
    encoded.set()
    assert all(len(result.outputs) == 1 for result in await asyncio.gather(*tasks))


async def test_a_job_stopped_in_its_run_stops_the_run_and_ends_interrupted(
    services_of: Make,
) -> None:
    async def hold(play: Play) -> None:
        await asyncio.Event().wait()

    engine = FakeEngine(hold)
    services, states = services_of(engine), list[JobState]()
    task = asyncio.ensure_future(run(services, states, id="a"))
    await eventually(lambda: engine.ran == ["a"])
    assert services.jobs.interrupt("a")
    with pytest.raises(ExecutionInterrupted):
        await task
    assert engine.stopped == ["a"]
    assert states == [JobState.INTERRUPTED]
    assert services.jobs.depth() == 0
