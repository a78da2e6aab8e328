"""What is counted as it happens; everything else is asked for when somebody scrapes."""

from __future__ import annotations

from itertools import product

from ..engine import PromptResult
from ..errors import ExecutionInterrupted, ExecutionTimeout, StatelessError
from ..jobs import Job
from .numbers import Distribution, Tally

BOUNDS_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600,
)  # fmt: skip
"""From a job that is cached to a video that takes an hour."""

LAG_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)

MODES = ("synchronous", "accepted")
OUTCOMES = ("succeeded", "failed", "interrupted", "timeout")

STAGES = {
    "queue": "queue_time",
    "preprocess": "preprocess_time",
    "postprocess": "postprocess_time",
    "upload": "upload_time",
}
"""The stages that a job's watch measures by themselves."""

EXECUTION, TOTAL = "execution", "total"


class Tallies:
    """The counts of this process. Any thread may add to them."""

    def __init__(self) -> None:
        self.jobs = Tally(product(MODES, OUTCOMES))
        self.failures = Tally()
        self.stages = Distribution(BOUNDS_S, [(stage,) for stage in (*STAGES, EXECUTION, TOTAL)])
        self.node_runs = Tally()
        self.node_seconds = Tally()
        self.requests = Tally()
        self.lag = Distribution(LAG_BOUNDS_S, [()])

    def job_ended(self, job: Job, outcome: PromptResult | StatelessError) -> None:
        """Count a job, how it ended, and how long it was in each stage that it came to."""
        named = _named(outcome)
        self.jobs.add(MODES[job.is_accepted], named)
        if isinstance(outcome, StatelessError) and named == "failed":
            self.failures.add(outcome.code)
        for stage, name in STAGES.items():
            if (seconds := job.watch.seconds(name)) is not None:
                self.stages.add(seconds, stage)
        waited = job.watch.seconds("queue_time")
        if waited is not None:
            # From its turn to its end, less what it waited for its turn.
            since_turn = job.watch.seconds("comfy_round_trip_time") or 0.0
            self.stages.add(max(0.0, since_turn - waited), EXECUTION)
        self.stages.add(job.watch.total_seconds(), TOTAL)

    def node_ran(self, class_type: str, seconds: float) -> None:
        """Count a node that ComfyUI ran."""
        self.node_runs.add(class_type)
        self.node_seconds.add(class_type, amount=seconds)

    def answered(self, method: str, route: str, status: int) -> None:
        """Count a request.

        Args:
            route: Its template: the paths that callers ask for have no end.
        """
        self.requests.add(method, route, str(status))


def _named(outcome: PromptResult | StatelessError) -> str:
    if not isinstance(outcome, StatelessError):
        return "succeeded"
    if isinstance(outcome, ExecutionInterrupted):
        return "interrupted"
    return "timeout" if isinstance(outcome, ExecutionTimeout) else "failed"
