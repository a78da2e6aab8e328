"""The life of jobs: which are alive, whose turn it is, how they are stopped and how they end.

Jobs wait here and not in ComfyUI's queue, where a thousand waiting graphs slow every request
down and anybody's *clear* loses them. Two at a time are handed over: one runs, one is next.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

from .engine import PromptResult
from .errors import ExecutionInterrupted, ExecutionTimeout, QueueFull, StatelessError
from .naming import header_id
from .requests import PromptRequest
from .timing import Stopwatch

log = logging.getLogger("comfyui_stateless.jobs")

PLACES = 2
"""Prompts that are in ComfyUI's queue at once; more do not raise throughput."""


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
    """

    def __init__(self, request: PromptRequest) -> None:
        self.run_id = str(uuid.uuid4())
        self.id = request.id
        self.priority = request.priority
        self.timeout_s = request.timeout_s
        self.state = JobState.PREPARING
        self.watch = Stopwatch()
        self._queued_at = 0.0
        self._task: asyncio.Task[Any] | None = None
        self._stopped: StatelessError | None = None

    def __str__(self) -> str:
        return f"{header_id(self.id)} (run {self.run_id})"

    def queued(self) -> None:
        """Note that the job begins to wait for its turn."""
        self.state = JobState.QUEUED
        self._queued_at = time.perf_counter()

    def started(self) -> None:
        """Note that ComfyUI runs the job now; may be called on any thread."""
        self.state = JobState.RUNNING
        self.watch.add("queue_time", time.perf_counter() - self._queued_at)

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
            raise self._stopped from None

    def _time_out(self) -> None:
        self.stop(
            ExecutionTimeout(f"The job was not done within its timeout_s of {self.timeout_s:g}.")
        )


class Turn:
    """One of the places in ComfyUI's queue, held until it is released."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Give the place to the next job. Calling it again changes nothing."""
        if self._release is not None:
            release, self._release = self._release, None
            release()


class Jobs:
    """The jobs of this process.

    Args:
        comfyui_depth: Gives how many prompts ComfyUI's own queue holds, ours included.
        max_depth: MAX_QUEUE_DEPTH.
        reject_when_full: Whether a full queue refuses new jobs.
    """

    def __init__(
        self,
        comfyui_depth: Callable[[], int],
        *,
        max_depth: int = 0,
        reject_when_full: bool = False,
    ) -> None:
        self._comfyui_depth = comfyui_depth
        self._max_depth = max_depth
        self._reject_when_full = reject_when_full
        self._live: dict[str, Job] = {}
        self._before_comfyui: set[str] = set()
        self._free = PLACES
        self._waiting: list[tuple[int, int, asyncio.Future[Turn]]] = []
        self._order = itertools.count()

    def depth(self) -> int:
        """Return how many prompts wait or run, ours and those of ComfyUI's other clients."""
        return len(self._before_comfyui) + self._comfyui_depth()

    @contextmanager
    def open(self, request: PromptRequest) -> Iterator[Job]:
        """Begin the life of a job; leaving the block ends it.

        Raises:
            QueueFull: The queue is at MAX_QUEUE_DEPTH and REJECT_WHEN_FULL is on.
        """
        if self._reject_when_full and self._max_depth and self.depth() >= self._max_depth:
            raise QueueFull(
                f"The queue is full: {self._max_depth} prompts wait or run already.",
                headers={"Retry-After": "5"},
            )
        job = Job(request)
        self._live[job.run_id] = job
        self._before_comfyui.add(job.run_id)
        try:
            yield job
        finally:
            self._before_comfyui.discard(job.run_id)
            del self._live[job.run_id]

    async def turn(self, job: Job) -> Turn:
        """Wait for a place in ComfyUI's queue: higher priority first, then first come."""
        job.queued()
        future: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-job.priority, next(self._order), future))
        self._hand_out()
        try:
            turn = await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                future.result().release()
            raise
        self._before_comfyui.discard(job.run_id)
        return turn

    def interrupt(self, caller_id: str) -> bool:
        """Stop every live job of this id; say whether there was any."""
        jobs = [job for job in self._live.values() if job.id == caller_id]
        live = [job for job in jobs if not job.state.is_terminal]
        for job in live:
            job.stop(ExecutionInterrupted("The job was interrupted."))
        return bool(live)

    async def finish(self, job: Job, work: Callable[[], Awaitable[PromptResult]]) -> PromptResult:
        """Do a job's work and record how it ended, whatever stage that was.

        Raises:
            StatelessError: How it failed.
        """
        try:
            result = await job.run(work)
        except ExecutionInterrupted:
            job.state = JobState.INTERRUPTED
            log.info("Job %s was interrupted", job)
            raise
        except StatelessError as error:
            job.state = JobState.FAILED
            log.warning("Job %s failed: %s: %s", job, error.code, ascii(error.message))
            raise
        except Exception as error:
            job.state = JobState.FAILED
            log.exception("Job %s failed", job)
            raise StatelessError("The server failed; its log says why.") from error
        job.state = JobState.SUCCEEDED
        return result

    def _hand_out(self) -> None:
        while self._free and self._waiting:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                self._free -= 1
                future.set_result(Turn(self._take_back))

    def _take_back(self) -> None:
        self._free += 1
        self._hand_out()


def _take_back_cancel(stopped: StatelessError | None) -> None:
    """Let a task that we cancelled count as not cancelled, where Python (3.11 on) keeps count."""
    uncancel = getattr(asyncio.current_task(), "uncancel", None)
    if stopped is not None and uncancel is not None:
        uncancel()
