"""The life of jobs: which are alive, where they are, how they are stopped and how they end."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from typing import Any, Protocol, TypeVar

from .engine import PreparedPrompt, PromptResult
from .errors import ExecutionInterrupted, ExecutionTimeout, QueueFull, StatelessError
from .naming import header_id
from .progress import Progress
from .requests import PromptRequest
from .timeline import Timeline
from .timing import Stopwatch
from .turns import Begun, Turn, Turns

log = logging.getLogger("comfyui_stateless.jobs")

IDLE_POLL_S = 0.02

MAX_RECENT = 2000
"""Ended jobs that are known at most."""

T = TypeVar("T")


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
        self.is_accepted = request.is_async
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
        self.watch.add("queue_time", time.perf_counter() - self._queued_at)
        self.timeline.tell("started", {})

    def ended(self, outcome: PromptResult | StatelessError) -> None:
        """Note how the job ended."""
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


class Record(Protocol):
    """What writes down, where a promise was given, how far a job is."""

    async def accepted(self, prepared: PreparedPrompt) -> None:
        """Note that the request is known to be good."""

    @property
    def begun(self) -> Begun | None:
        """Notes that the job is about to be run; None where nobody counts that."""

    async def ended(self, outcome: PromptResult | StatelessError) -> None:
        """Note how the job ended, and what is due because of that."""


class Unrecorded:
    """For jobs whose caller waits: if the process dies, the caller knows."""

    begun = None

    async def accepted(self, prepared: PreparedPrompt) -> None:
        pass

    async def ended(self, outcome: PromptResult | StatelessError) -> None:
        pass


UNRECORDED = Unrecorded()


class Jobs:
    """The jobs of this process.

    Args:
        comfyui_depth: Gives how many prompts ComfyUI's own queue holds, ours included.
        max_depth: MAX_QUEUE_DEPTH.
        reject_when_full: Whether a full queue refuses new jobs.
        result_ttl_s: RESULT_TTL_S: how long ended jobs are known.
        on_ended: Told of each job that has ended.
    """

    def __init__(
        self,
        comfyui_depth: Callable[[], int],
        *,
        max_depth: int = 0,
        reject_when_full: bool = False,
        result_ttl_s: float = 0,
        on_ended: Callable[[Job], object] = lambda job: None,
    ) -> None:
        self._comfyui_depth = comfyui_depth
        self._max_depth = max_depth
        self._reject_when_full = reject_when_full
        self._result_ttl_s = result_ttl_s
        self._on_ended = on_ended
        self._live: dict[str, Job] = {}
        self._recent: dict[str, Job] = {}
        self._before_comfyui: set[str] = set()
        self._turns = Turns()

    def live(self) -> tuple[Job, ...]:
        """Return the jobs that live, oldest first."""
        return tuple(self._live.values())

    def depth(self) -> int:
        """Return how many prompts wait or run, ours and those of ComfyUI's other clients."""
        return len(self._before_comfyui) + self._comfyui_depth()

    @contextmanager
    def open(self, request: PromptRequest, run_id: str | None = None) -> Iterator[Job]:
        """Begin the life of a job; leaving the block ends it.

        Args:
            run_id: Of a job that was accepted before; it is let in however full the queue is.

        Raises:
            QueueFull: The queue is at MAX_QUEUE_DEPTH and REJECT_WHEN_FULL is on.
        """
        limit = self._max_depth if self._reject_when_full and run_id is None else 0
        if limit and self.depth() >= limit:
            raise QueueFull(
                f"The queue is full: {self._max_depth} prompts wait or run already.",
                headers={"Retry-After": "5"},
            )
        job = Job(request, run_id)
        self._live[job.run_id] = job
        self._before_comfyui.add(job.run_id)
        try:
            yield job
        finally:
            self._before_comfyui.discard(job.run_id)
            del self._live[job.run_id]
            job.timeline.close()

    async def turn(self, job: Job, begun: Begun | None = None) -> Turn:
        """Wait for a place in ComfyUI's queue.

        Args:
            begun: As for ``Turns.wait``.
        """
        job.queued()
        turn = await self._turns.wait(
            job.run_id,
            job.priority,
            begun,
            lambda position: job.timeline.tell("queued", {"position": position}),
        )
        self._before_comfyui.discard(job.run_id)
        return turn

    async def idle(self, within_s: float) -> bool:
        """Wait until no job lives; say whether that came within ``within_s`` seconds."""
        deadline = time.monotonic() + within_s
        while self._live:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(IDLE_POLL_S)
        return True

    def stop_all(self, reason: Callable[[], StatelessError], but: Collection[Job] = ()) -> None:
        """Stop every job that lives, each for a ``reason`` of its own, but for those in ``but``."""
        for job in list(self._live.values()):
            if job not in but:
                job.stop(reason())

    def find(self, caller_id: str) -> Job | None:
        """Return the newest job of this id, one that lives or one that ended lately."""
        self._forget()
        jobs = itertools.chain(self._recent.values(), self._live.values())
        found = [job for job in jobs if job.id == caller_id]
        return max(found, key=lambda job: job.opened_at, default=None)

    def position(self, job: Job) -> int | None:
        """Return how many jobs of ours are before this one, None if it does not wait."""
        return self._turns.position(job.run_id)

    def interrupt(self, caller_id: str) -> bool:
        """Stop every live job of this id; say whether there was any."""
        jobs = [job for job in self._live.values() if job.id == caller_id]
        live = [job for job in jobs if not job.state.is_terminal]
        for job in live:
            job.stop(ExecutionInterrupted("The job was interrupted."))
        return bool(live)

    async def finish(
        self, job: Job, work: Callable[[], Awaitable[PromptResult]], record: Record = UNRECORDED
    ) -> PromptResult:
        """Do a job's work and record how it ended, whatever stage that was.

        Raises:
            StatelessError: How it failed.
        """
        outcome = await _caught(job, job.run(work))
        unrecorded = await _caught(job, record.ended(outcome))
        if unrecorded is not None:
            outcome = unrecorded
        self._end(job, outcome)
        if isinstance(outcome, StatelessError):
            raise outcome
        return outcome

    def _end(self, job: Job, outcome: PromptResult | StatelessError) -> None:
        job.ended(outcome)
        self._on_ended(job)
        if isinstance(outcome, ExecutionInterrupted):
            log.info("Job %s was interrupted", job)
        elif isinstance(outcome, StatelessError):
            log.warning("Job %s failed: %s: %s", job, outcome.code, ascii(outcome.message))
        if self._result_ttl_s:
            self._recent[job.run_id] = job
            self._forget()

    def _forget(self) -> None:
        """Forget the jobs that ended too long ago, and those that are too many."""
        oldest = time.monotonic() - self._result_ttl_s
        for run_id, job in list(self._recent.items()):
            if (job.ended_at or 0) > oldest and len(self._recent) <= MAX_RECENT:
                break
            del self._recent[run_id]


async def _caught(job: Job, work: Awaitable[T]) -> T | StatelessError:
    """Return what ``work`` comes to, be it an error."""
    try:
        return await work
    except StatelessError as error:
        return error
    except Exception:
        log.exception("Job %s failed", job)
        return StatelessError("The server failed; its log says why.")


def _without_bodies(result: PromptResult) -> PromptResult:
    outputs = tuple(replace(output, body=b"") for output in result.outputs)
    return replace(result, prompt={}, outputs=outputs)


def _take_back_cancel(stopped: StatelessError | None) -> None:
    """Let a task that we cancelled count as not cancelled, where Python (3.11 on) keeps count."""
    uncancel = getattr(asyncio.current_task(), "uncancel", None)
    if stopped is not None and uncancel is not None:
        uncancel()
