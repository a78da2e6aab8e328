from __future__ import annotations

import pytest

from comfyui_stateless.errors import (
    ExecutionError,
    ExecutionInterrupted,
    ExecutionTimeout,
    StatelessError,
)
from comfyui_stateless.jobs import Job
from comfyui_stateless.metrics import Tallies
from tests.accepting import request, result


def end(tallies: Tallies, error: StatelessError | None = None, **fields: object) -> None:
    job = Job(request(**fields))
    job.ended(error or result())
    tallies.job_ended(job, error or result())


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "succeeded"),
        (ExecutionError("No."), "failed"),
        (ExecutionInterrupted("No."), "interrupted"),
        (ExecutionTimeout("No."), "timeout"),
    ],
)
@pytest.mark.parametrize(
    ("fields", "mode"), [({}, "synchronous"), ({"webhook_v2": "http://a/b"}, "accepted")]
)
def test_a_job_counts_by_how_it_came_and_how_it_ended(
    error: StatelessError | None, outcome: str, fields: dict[str, object], mode: str
) -> None:
    tallies = Tallies()
    end(tallies, error, **fields)
    counted = {labels: count for labels, count in tallies.jobs.read().items() if count}
    assert counted == {(mode, outcome): 1}


def test_only_failures_count_by_their_code() -> None:
    tallies = Tallies()
    for error in (
        None,
        ExecutionError("No."),
        ExecutionInterrupted("No."),
        ExecutionTimeout("No."),
    ):
        end(tallies, error)
    assert tallies.failures.read() == {("execution_error",): 1}


def test_a_job_counts_for_the_stages_that_it_came_to_and_no_others() -> None:
    tallies = Tallies()
    job = Job(request())
    job.watch.add("preprocess_time", 0.5)
    job.watch.add("queue_time", 2)
    job.watch.add("comfy_round_trip_time", 5)
    job.ended(ExecutionError("No."))
    tallies.job_ended(job, ExecutionError("No."))
    spreads = {labels[0]: spread for labels, spread in tallies.stages.read().items()}
    sums = {stage: spread.sum for stage, spread in spreads.items() if spread.counts[-1]}
    assert sums.pop("total") > 0
    assert sums == {"preprocess": 0.5, "queue": 2, "execution": 3}
