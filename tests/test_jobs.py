from __future__ import annotations

import asyncio
import errno
import logging
from typing import Any

import pytest

from comfyui_stateless.engine import PromptResult
from comfyui_stateless.errors import (
    ConversionError,
    ExecutionInterrupted,
    ExecutionTimeout,
    NoSpace,
    QueueFull,
    StatelessError,
)
from comfyui_stateless.jobs import Job, Jobs, JobState
from comfyui_stateless.requests import PromptRequest
from comfyui_stateless.turns import PLACES
from tests.fakes import eventually, graph

RESULT = PromptResult("a", {}, (), (), {}, {})


def request(**fields: Any) -> PromptRequest:
    return PromptRequest(prompt=graph(), **fields)


async def work() -> PromptResult:
    return RESULT


async def forever() -> PromptResult:
    await asyncio.Event().wait()
    raise AssertionError


class Comfy:
    """Counts what the jobs have handed over."""

    depth = 0


@pytest.fixture
def comfy() -> Comfy:
    return Comfy()


@pytest.fixture
def jobs(comfy: Comfy) -> Jobs:
    return Jobs(lambda: comfy.depth)


async def test_a_job_that_ends_well_succeeds(jobs: Jobs) -> None:
    with jobs.open(request(id="a")) as job:
        assert await jobs.finish(job, work) is RESULT
        assert job.state is JobState.SUCCEEDED


async def test_an_ended_job_lets_go_of_its_uploads(jobs: Jobs) -> None:
    with jobs.open(request(id="a")) as job:
        job.uploaded = lambda: ("https://bucket.example/a.png",)
        await jobs.finish(job, work)
    assert job.uploaded is None


async def test_a_job_that_fails_raises_what_its_work_raised(jobs: Jobs) -> None:
    async def fail() -> PromptResult:
        raise ConversionError("No.")

    with jobs.open(request()) as job:
        with pytest.raises(ConversionError):
            await jobs.finish(job, fail)
        assert job.state is JobState.FAILED


async def test_an_unforeseen_failure_is_logged_and_told_without_its_text(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> PromptResult:
        raise RuntimeError("inside")

    with jobs.open(request()) as job:
        with pytest.raises(StatelessError) as caught:
            await jobs.finish(job, fail)
        assert job.state is JobState.FAILED
    assert caught.value.code == "internal_error"
    assert "inside" not in caught.value.message
    assert "inside" in caplog.text


async def test_a_full_disk_is_told_as_one(jobs: Jobs) -> None:
    async def work() -> PromptResult:
        raise OSError(errno.ENOSPC, "No space left on device", "/somewhere/private")

    with pytest.raises(NoSpace) as caught, jobs.open(request()) as job:
        await jobs.finish(job, work)
    assert (caught.value.status, caught.value.code) == (507, "no_space")
    assert "private" not in caught.value.message


async def test_a_job_over_its_time_is_cancelled(jobs: Jobs) -> None:
    with jobs.open(request(timeout_s=0.01)) as job:
        with pytest.raises(ExecutionTimeout, match=r"0\.01"):
            await jobs.finish(job, forever)
        assert job.state is JobState.FAILED


async def test_a_job_within_its_time_is_not(jobs: Jobs) -> None:
    with jobs.open(request(timeout_s=5)) as job:
        assert await jobs.finish(job, work) is RESULT


async def test_an_interrupt_stops_every_live_job_of_an_id_and_no_other(jobs: Jobs) -> None:
    async def run(caller_id: str, ends: list[str]) -> None:
        with jobs.open(request(id=caller_id)) as job:
            try:
                await jobs.finish(job, forever)
            except ExecutionInterrupted:
                ends.append(f"{caller_id} {job.state.value}")

    ends: list[str] = []
    tasks = [asyncio.ensure_future(run(caller_id, ends)) for caller_id in ("a", "b", "a")]
    await asyncio.sleep(0)
    assert jobs.interrupt("a")
    await asyncio.gather(tasks[0], tasks[2])
    assert ends == ["a interrupted", "a interrupted"]
    assert not tasks[1].done()
    assert jobs.interrupt("b")
    await tasks[1]


async def test_an_interrupt_of_an_ended_or_unknown_job_changes_nothing(jobs: Jobs) -> None:
    with jobs.open(request(id="a")) as job:
        await jobs.finish(job, work)
        assert not jobs.interrupt("a")
        assert job.state is JobState.SUCCEEDED
    assert not jobs.interrupt("a")


async def test_a_job_that_was_stopped_before_it_began_does_no_work(jobs: Jobs) -> None:
    with jobs.open(request(id="a")) as job:
        assert jobs.interrupt("a")
        with pytest.raises(ExecutionInterrupted):
            await jobs.finish(job, lambda: pytest.fail("it ran"))


async def test_the_first_reason_to_stop_counts(jobs: Jobs) -> None:
    with jobs.open(request()) as job:
        task = asyncio.ensure_future(jobs.finish(job, forever))
        await asyncio.sleep(0)
        job.stop(ExecutionTimeout("first."))
        job.stop(ExecutionInterrupted("second."))
        with pytest.raises(ExecutionTimeout, match="first"):
            await task


async def test_cancelling_from_outside_is_no_failure_of_the_job(jobs: Jobs) -> None:
    with jobs.open(request()) as job:
        task = asyncio.ensure_future(jobs.finish(job, forever))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def turns_of(jobs: Jobs, priorities: list[int]) -> list[int]:
    """Open jobs with these priorities in a row; return the order of their turns."""
    order: list[int] = []

    async def wait(number: int, priority: int) -> None:
        with jobs.open(request(priority=priority)) as job:
            turn = await jobs.turn(job)
            order.append(number)
            await asyncio.sleep(0)
            turn.release()

    with jobs.open(request()) as blocker:
        blocking = [await jobs.turn(blocker) for _ in range(PLACES)]
        tasks = [asyncio.ensure_future(wait(n, p)) for n, p in enumerate(priorities)]
        await asyncio.sleep(0)
        assert order == []
        for turn in blocking:
            turn.release()
        await asyncio.gather(*tasks)
    return order


async def test_higher_priorities_come_first_and_equals_in_order(jobs: Jobs) -> None:
    assert await turns_of(jobs, [0, 1, 0, -3, 1, 2]) == [5, 1, 4, 0, 2, 3]


async def test_no_more_than_the_places_are_handed_out_and_each_comes_back(jobs: Jobs) -> None:
    for _ in range(3):
        assert await turns_of(jobs, [0] * 10) == list(range(10))


async def test_a_turn_is_given_back_once_however_often_it_is_released(jobs: Jobs) -> None:
    with jobs.open(request()) as job:
        turns = [await jobs.turn(job) for _ in range(PLACES)]
        for _ in range(5):
            turns[0].release()
        await jobs.turn(job)
        waiting = asyncio.ensure_future(jobs.turn(job))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_a_job_cancelled_while_it_waits_leaves_its_place_to_the_next(jobs: Jobs) -> None:
    with jobs.open(request()) as job:
        held = [await jobs.turn(job) for _ in range(PLACES)]
        first, second = (asyncio.ensure_future(jobs.turn(job)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        held[0].release()
        (await asyncio.wait_for(second, 1)).release()


async def test_a_job_cancelled_in_the_moment_of_its_turn_gives_it_back(jobs: Jobs) -> None:
    with jobs.open(request()) as job:
        held = [await jobs.turn(job) for _ in range(PLACES)]
        waiting = asyncio.ensure_future(jobs.turn(job))
        await asyncio.sleep(0)
        held[0].release()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        (await asyncio.wait_for(jobs.turn(job), 1)).release()


async def test_the_depth_counts_ours_before_comfyui_and_all_that_are_there(
    jobs: Jobs, comfy: Comfy
) -> None:
    comfy.depth = 3
    with jobs.open(request()) as job:
        assert jobs.depth() == 4
        await jobs.turn(job)
        assert jobs.depth() == 3
    assert jobs.depth() == 3


@pytest.mark.parametrize(
    ("depth", "max_depth", "reject", "refused"),
    [(2, 2, True, True), (1, 2, True, False), (9, 2, False, False), (9, 0, True, False)],
)
async def test_a_full_queue_refuses_only_where_it_is_told_to(
    depth: int, max_depth: int, reject: bool, refused: bool
) -> None:
    jobs = Jobs(lambda: depth, max_depth=max_depth, reject_when_full=reject)
    if refused:
        with pytest.raises(QueueFull) as caught, jobs.open(request()):
            pass
        assert caught.value.headers == {"Retry-After": "5"}
    else:
        with jobs.open(request()) as job:
            assert job.state is JobState.PREPARING


async def test_waiting_counts_as_queue_time(jobs: Jobs) -> None:
    with jobs.open(request()) as job:
        job.queued()
        await asyncio.sleep(0.02)
        job.started()
    assert 15 <= job.watch.ms("queue_time") < 500


async def test_a_job_names_itself_in_logs_without_forging_lines(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "comfyui_stateless.jobs")
    with jobs.open(request(id="a\nforged")) as job:
        task = asyncio.ensure_future(jobs.finish(job, forever))
        await eventually(lambda: jobs.interrupt("a\nforged"))
        with pytest.raises(ExecutionInterrupted):
            await task
    (record,) = caplog.records
    assert record.getMessage() == f"Job a_forged (run {job.run_id}) was interrupted"


def test_every_run_has_an_id_of_its_own() -> None:
    assert Job(request(id="a")).run_id != Job(request(id="a")).run_id


@pytest.mark.parametrize("state", list(JobState))
def test_three_states_are_ends(state: JobState) -> None:
    ends = {JobState.SUCCEEDED, JobState.FAILED, JobState.INTERRUPTED}
    assert state.is_terminal is (state in ends)


async def test_the_newest_job_of_an_id_is_found_until_it_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("comfyui_stateless.jobs.MAX_RECENT", 1)
    jobs = Jobs(lambda: 0, result_ttl_s=60)

    async def ended(caller_id: str) -> Job:
        with jobs.open(request(id=caller_id)) as job:
            await jobs.finish(job, work)
        return job

    await ended("a")
    newer = await ended("a")
    assert jobs.find("a") is newer
    other = await ended("b")
    assert (jobs.find("a"), jobs.find("b")) == (None, other)
    with jobs.open(request(id="b")) as live:
        assert jobs.find("b") is live
        assert jobs.interrupt("b")
    assert jobs.find("b") is other
    assert not jobs.interrupt("b")
