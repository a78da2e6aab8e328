"""One request's life."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any

from .engine import PromptResult
from .errors import ExecutionInterrupted, ExecutionTimeout, StatelessError
from .naming import header_id
from .progress import Progress
from .requests import PromptRequest
from .timeline import Timeline
from .timing import Stopwatch, unix_ms


class JobState(str, Enum):
    """Where a job is in its life."""

    PREPARING = "preparing"
    QUEUED = "queued"
    RUNNING = "running"
    DELIVERING = "delivering"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def is_terminal(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.INTERRUPTED)


RAN = (JobState.DELIVERING, JobState.SUCCEEDED)
"""States in which all nodes that had to run have run; a graph may have others."""


class Job:
    """One request's life.

    Attributes:
        run_id: An id of its own, a UUID; the caller's ``id`` need not be unique.
        watch: Measures its stages.
        timeline: What happens to it, for whoever listens.
        progress: How far its run is.
        error: What it failed with, as replies have it, once it has.
        result: What came out, without the outputs themselves, once it has succeeded.
        uploaded: Gives the URLs of what it has uploaded so far; None where it does not upload.
        placed: Gives where the caller said what is at a place in the graph, while it lives.
        source: Where its graph comes from: ``prompt``, or ``workflow/<path>``.
        created: When its life began, in Unix milliseconds.
        began: When ComfyUI began to run it, None before.
        over: When it ended, None before.
        is_accepted: Whether its caller is answered with 202, and hears of the end elsewhere.
        needs_secrets: Whether it came with what is written down nowhere.
        opened_at: When its life began, on the monotonic clock.
    """

    def __init__(self, request: PromptRequest, run_id: str | None = None) -> None:
        self.run_id = run_id or str(uuid.uuid4())
        self.id = request.id
        self.priority = request.priority
        self.timeout_s = request.timeout_s
        self.state = JobState.PREPARING
        self.watch = Stopwatch()
        self.timeline = Timeline()
        self.progress = Progress(len(request.prompt))
        self.error: dict[str, Any] | None = None
        self.result: PromptResult | None = None
        self.uploaded: Callable[[], Sequence[str]] | None = None
        self.placed: Callable[[str], str] = request.placed
        self.source = request.source or "prompt"
        self.is_accepted = request.is_async
        self.created = unix_ms()
        self.began: int | None = None
        self.over: int | None = None
        self.needs_secrets = bool(request.secret_extra_data)
        self.opened_at = time.monotonic()
        self.ended_at: float | None = None
        self._queued_at = 0.0
        self._preview_watchers = 0
        self._task: asyncio.Task[Any] | None = None
        self._stopped: StatelessError | None = None

    def __str__(self) -> str:
        return f"{header_id(self.id)} (run {self.run_id})"

    @contextmanager
    def watched(self, *, previews: bool) -> Iterator[None]:
        """Note that somebody watches inside the block, and whether they want previews."""
        self._preview_watchers += previews
        try:
            yield
        finally:
            self._preview_watchers -= previews

    @property
    def overall(self) -> float:
        """How far it is, from 0 to 1; at its end also nodes that had no need to run are done."""
        return 1.0 if self.state in RAN else round(self.progress.overall, 4)

    @property
    def wants_previews(self) -> bool:
        """Whether anybody who watches wants previews."""
        return self._preview_watchers > 0

    def preparing(self, progress: Mapping[str, Any]) -> None:
        """Note how far a fetch for the job is."""
        which = (progress["location"], progress["url"])
        self.timeline.tell("preparing", progress, instead_of=which)

    def queued(self) -> None:
        """Note that the job begins to wait for its turn."""
        self.state = JobState.QUEUED
        self._queued_at = time.perf_counter()

    def started(self) -> None:
        """Note that ComfyUI runs the job now; may be called on any thread."""
        self.state = JobState.RUNNING
        self.began = unix_ms()
        self.watch.add("queue_time", time.perf_counter() - self._queued_at)
        self.timeline.tell("started", {})

    def ended(self, outcome: PromptResult | StatelessError) -> None:
        """Note how the job ended."""
        self.placed = str  # lets go of the request
        self.uploaded = None  # and of the outputs, which some uploads hold
        self._stopped = None  # and of the run, which its traceback holds
        if isinstance(outcome, StatelessError):
            is_interruption = isinstance(outcome, ExecutionInterrupted)
            self.state = JobState.INTERRUPTED if is_interruption else JobState.FAILED
            self.error = outcome.body()
            self.timeline.tell("failed", self.error)
        else:
            self.state = JobState.SUCCEEDED
            self.result = _without_bodies(outcome)
            self.timeline.tell("succeeded", {})
        self.progress.leave()
        self.ended_at = time.monotonic()
        self.over = unix_ms()
        self.timeline.close()

    def stop(self, error: StatelessError) -> None:
        """End the job with ``error``, wherever it is; an ended job stays as it is."""
        if self.state.is_terminal or self._stopped is not None:
            return
        self._stopped = error
        if self._task is not None:
            self._task.cancel()

    async def run(self, work: Callable[[], Awaitable[PromptResult]]) -> PromptResult:
        """Do ``work`` as this job, within its time, in the task that calls.

        To stop the job is to cancel that task while it is in here.

        Raises:
            StatelessError: What ``work`` raised, or what the job was stopped with.
        """
        self._raise_if_stopped()
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        timer = loop.call_later(self.timeout_s, self._time_out) if self.timeout_s else None
        try:
            return await work()
        except asyncio.CancelledError:
            _take_back_cancel(self._stopped)
            self._raise_if_stopped()
            raise
        finally:
            self._task = None
            if timer is not None:
                timer.cancel()

    def _raise_if_stopped(self) -> None:
        if self._stopped is not None:
            if self.uploaded is not None:
                self._stopped.details["uploaded"] = list(self.uploaded())
            raise self._stopped from None

    def _time_out(self) -> None:
        self.stop(
            ExecutionTimeout(f"The job was not done within its timeout_s of {self.timeout_s:g}.")
        )


def _without_bodies(result: PromptResult) -> PromptResult:
    outputs = tuple(output._replace(body=b"") for output in result.outputs)
    return result._replace(prompt={}, outputs=outputs)


def _take_back_cancel(stopped: StatelessError | None) -> None:
    """Let a task that we cancelled count as not cancelled, where Python (3.11 on) keeps count."""
    uncancel = getattr(asyncio.current_task(), "uncancel", None)
    if stopped is not None and uncancel is not None:
        uncancel()
