from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.errors import ExecutionInterrupted, KeyReused, NoSpace, StatelessError
from comfyui_stateless.idempotency import Answer, Idempotency
from comfyui_stateless.jobs import Job
from comfyui_stateless.journal import IdempotencyKey, JobContents, NewJob, StoredResult
from comfyui_stateless.journal.journal import Journal
from comfyui_stateless.recording import Recorded, new_job
from comfyui_stateless.shared import SharedRun
from tests.accepting import prepared, request, result

KEY = IdempotencyKey("key", "digest")
OTHER_BODY = IdempotencyKey("key", "another digest")
ANSWER: Mapping[str, Any] = {"id": "a", "status": "ok"}


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "state")
    yield journal
    await journal.close()


@pytest.fixture
def keys(journal: Journal) -> Idempotency:
    return Idempotency(journal)


class Begins:
    """Begins what a request asks for, once it may."""

    def __init__(self, *answers: Answer | StatelessError, is_open: bool = True) -> None:
        self.count = 0
        self.is_open = asyncio.Event()
        self._answers = list(answers)
        if is_open:
            self.is_open.set()

    async def __call__(self) -> Answer:
        self.count += 1
        await self.is_open.wait()
        answer = self._answers.pop(0)
        if isinstance(answer, StatelessError):
            raise answer
        return answer


async def unused() -> Answer:
    raise AssertionError("it was begun again")


def was_stopped_with(run: SharedRun) -> StatelessError | None:
    return run.job._stopped


def shared() -> SharedRun:
    return SharedRun(Job(request(id="a")), stop_when_left=True)


async def test_a_key_that_nobody_knows_begins_something(keys: Idempotency) -> None:
    assert await keys.once(KEY, Begins(ANSWER)) is ANSWER


async def test_two_at_the_same_moment_begin_once(keys: Idempotency) -> None:
    begins = Begins(ANSWER, is_open=False)
    asking = [asyncio.ensure_future(keys.once(KEY, begins)) for _ in range(10)]
    await asyncio.sleep(0.01)
    begins.is_open.set()
    assert await asyncio.gather(*asking) == [ANSWER] * 10
    assert begins.count == 1


async def test_another_body_is_refused_while_the_first_is_under_way(keys: Idempotency) -> None:
    begins = Begins(ANSWER, is_open=False)
    first = asyncio.ensure_future(keys.once(KEY, begins))
    await asyncio.sleep(0)
    with pytest.raises(KeyReused) as caught:
        await keys.once(OTHER_BODY, unused)
    assert caught.value.status == 422
    begins.is_open.set()
    await first


async def test_those_who_wait_for_what_cannot_begin_fail_alike_and_the_key_is_free(
    keys: Idempotency,
) -> None:
    begins = Begins(NoSpace("disk full."), ANSWER, is_open=False)
    asking = [asyncio.ensure_future(keys.once(KEY, begins)) for _ in range(3)]
    await asyncio.sleep(0.01)
    begins.is_open.set()
    for error in await asyncio.gather(*asking, return_exceptions=True):
        assert isinstance(error, NoSpace)
    assert await keys.once(OTHER_BODY, begins) is ANSWER


async def test_one_who_hangs_up_while_it_begins_lets_the_others_begin_it_themselves(
    keys: Idempotency,
) -> None:
    begins = Begins(ANSWER, is_open=False)
    first = asyncio.ensure_future(keys.once(KEY, begins))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    begins.is_open.set()
    assert await keys.once(KEY, begins) is ANSWER


async def test_a_run_that_is_shared_is_joined_until_it_has_its_outcome(keys: Idempotency) -> None:
    first, second = shared(), shared()
    with first.joined():
        assert await keys.once(KEY, Begins(first)) is first
        assert await keys.once(KEY, unused) is first
    with first.joined():
        pass
    await asyncio.wait_for(first.settle(ExecutionInterrupted("Left.")), 1)
    await asyncio.sleep(0)
    assert await keys.once(KEY, Begins(second)) is second
    with pytest.raises(KeyReused):
        await keys.once(OTHER_BODY, unused)
    await second.settle(result())


async def test_a_run_that_everybody_has_left_is_not_joined_but_begun_again(
    keys: Idempotency,
) -> None:
    """As by a client that gives up waiting and sends its request again at once."""
    first, second = shared(), shared()
    with first.joined():
        assert await keys.once(KEY, Begins(first)) is first
    again = asyncio.ensure_future(keys.once(KEY, Begins(second)))
    await asyncio.sleep(0.01)
    assert not again.done()
    await first.settle(ExecutionInterrupted("Left."))
    assert await again is second
    await second.settle(result())


async def test_an_accepted_job_answers_alike_before_and_after_it_was_finished_and_restarts(
    keys: Idempotency, journal: Journal
) -> None:
    sent = request(id="a", webhook="http://host", priority=3)
    told: list[Mapping[str, Any]] = []
    record = Recorded(sent, "run", journal, lambda message: None, accept=told.append, key=KEY)
    await record.accepted(prepared())
    assert await keys.once(KEY, unused) == told[0]
    assert await Idempotency(journal).once(KEY, unused) == told[0]
    with pytest.raises(KeyReused):
        await keys.once(OTHER_BODY, unused)
    await record.ended(result())
    stored = await keys.once(KEY, unused)
    assert isinstance(stored, StoredResult)
    assert stored.run_id == "run"
    with pytest.raises(KeyReused):
        await keys.once(OTHER_BODY, unused)


async def test_a_job_that_is_finished_while_its_key_is_looked_up_answers_with_its_result(
    tmp_path: Path,
) -> None:
    class Finishing(Journal):
        async def job_contents(self, run_id: str) -> JobContents:
            await self.finish(run_id, {"prompt": {}})
            return await super().job_contents(run_id)

    journal = await Finishing.open(tmp_path / "state")
    try:
        await journal.accept(new_job(request(), prepared(), KEY))
        answer = await Idempotency(journal).once(KEY, unused)
    finally:
        await journal.close()
    assert isinstance(answer, StoredResult)


async def test_a_key_of_a_job_that_came_without_a_body_like_it_is_no_other_s(
    keys: Idempotency, journal: Journal
) -> None:
    await journal.accept(NewJob("run", "a", b"{}", key=IdempotencyKey("other", "digest")))
    assert await keys.once(KEY, Begins(ANSWER)) is ANSWER


# Shared runs


async def test_a_waiter_gets_the_result_and_its_files_stay_until_he_leaves() -> None:
    run, outcome = shared(), result()
    with run.joined() as waiter:
        settling = asyncio.ensure_future(run.settle(outcome))
        assert await waiter.result() is outcome
        await asyncio.sleep(0)
        assert not settling.done()
    await asyncio.wait_for(settling, 1)


async def test_one_who_hangs_up_is_told_so_and_the_others_get_the_result() -> None:
    run, outcome = shared(), result()
    with run.joined() as stays, run.joined() as goes:
        goes.stop(ExecutionInterrupted("The client closed the connection."))
        with pytest.raises(ExecutionInterrupted):
            await goes.result()
        assert not run.is_stopped
        settling = asyncio.ensure_future(run.settle(outcome))
        assert await stays.result() is outcome
    await settling


async def test_the_last_to_hang_up_stops_the_job_at_once() -> None:
    run = shared()
    with run.joined() as first, run.joined() as second:
        first.stop(ExecutionInterrupted("Gone."))
        assert was_stopped_with(run) is None
        second.stop(ExecutionInterrupted("Gone."))
        assert isinstance(was_stopped_with(run), ExecutionInterrupted)
        assert run.is_stopped
    await run.settle(ExecutionInterrupted("Gone."))


async def test_a_job_that_is_not_stopped_by_its_callers_goes_on_without_them() -> None:
    run = SharedRun(Job(request()), stop_when_left=False)
    with run.joined() as waiter:
        waiter.stop(ExecutionInterrupted("Gone."))
    assert was_stopped_with(run) is None
    assert not run.is_stopped
    await run.settle(result())


async def test_one_who_hangs_up_after_the_end_keeps_the_files_until_he_has_left() -> None:
    """He may be reading them at this moment."""
    run = shared()
    with run.joined() as waiter:
        settling = asyncio.ensure_future(run.settle(result()))
        await waiter.result()
        waiter.stop(ExecutionInterrupted("Gone."))
        await asyncio.sleep(0)
        assert not settling.done()
    await asyncio.wait_for(settling, 1)


async def test_a_failure_that_nobody_waits_for_is_no_noise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def leave() -> None:
        run = shared()
        with run.joined() as waiter:
            waiter.stop(ExecutionInterrupted("Gone."))
        await run.settle(ExecutionInterrupted("Left."))

    await leave()
    gc.collect()
    assert [record.getMessage() for record in caplog.records] == []
