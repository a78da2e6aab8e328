"""The life of jobs: which are alive, where they are, how they are stopped and how they end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from .engine import PreparedPrompt, PromptResult
from .errors import ExecutionInterrupted, QueueFull, StatelessError, full_disk
from .job import Job, JobState
from .requests import PromptRequest
from .turns import Begun, Turn, Turns

__all__ = ["UNRECORDED", "Ended", "Job", "JobState", "Jobs", "Record", "Unrecorded"]

log = logging.getLogger("comfyui_stateless.jobs")

IDLE_POLL_S = 0.02

MAX_RECENT = 2000
"""Ended jobs that are known at most."""

T = TypeVar("T")

Ended = Callable[[Job, PromptResult | StatelessError], object]
"""Takes a job that has ended, and how; what is on disk of the result stays until it returns."""


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
        on_ended: Told of each job that has ended, on the loop.
    """

    def __init__(
        self,
        comfyui_depth: Callable[[], int],
        *,
        max_depth: int = 0,
        reject_when_full: bool = False,
        result_ttl_s: float = 0,
        on_ended: Sequence[Ended] = (),
    ) -> None:
        self._comfyui_depth = comfyui_depth
        self._max_depth = max_depth
        self._reject_when_full = reject_when_full
        self._result_ttl_s = result_ttl_s
        self._on_ended = on_ended
        self._live: dict[str, Job] = {}
        self._recent: OrderedDict[str, Job] = OrderedDict()
        self._by_id: dict[str, dict[str, Job]] = {}
        self._before_comfyui: set[str] = set()
        self._turns = Turns()

    def live(self) -> tuple[Job, ...]:
        """Return the jobs that live, oldest first."""
        return tuple(self._live.values())

    def alive(self) -> int:
        """Return how many jobs live."""
        return len(self._live)

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
        self._by_id.setdefault(job.id, {})[job.run_id] = job
        self._before_comfyui.add(job.run_id)
        try:
            yield job
        finally:
            self._before_comfyui.discard(job.run_id)
            del self._live[job.run_id]
            self._let_go(job)
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
        found = self._by_id.get(caller_id, {}).values()
        return max(found, key=lambda job: job.opened_at, default=None)

    def position(self, job: Job) -> int | None:
        """Return how many jobs of ours are before this one, None if it does not wait."""
        return self._turns.position(job.run_id)

    def positions(self) -> Mapping[str, int]:
        """Return how many jobs of ours are before each one that waits, by their own ids, in order."""
        return self._turns.positions()

    def interrupt(self, caller_id: str) -> bool:
        """Stop every live job of this id; say whether there was any."""
        known = self._by_id.get(caller_id, {})
        return self._stop([job for run_id, job in known.items() if run_id in self._live])

    def interrupt_run(self, run_id: str) -> bool:
        """Stop the live job with this id of its own; say whether there is one."""
        job = self._live.get(run_id)
        return self._stop([] if job is None else [job])

    def _stop(self, jobs: Sequence[Job]) -> bool:
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
        for told in self._on_ended:
            told(job, outcome)
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
        while self._recent:
            job = next(iter(self._recent.values()))
            if (job.ended_at or 0) > oldest and len(self._recent) <= MAX_RECENT:
                break
            self._recent.popitem(last=False)
            self._let_go(job)

    def _let_go(self, job: Job) -> None:
        """Forget the id of a job that neither lives nor ended lately."""
        if job.run_id in self._live or job.run_id in self._recent:
            return
        known = self._by_id[job.id]
        del known[job.run_id]
        if not known:
            del self._by_id[job.id]


async def _caught(job: Job, work: Awaitable[T]) -> T | StatelessError:
    """Return what ``work`` comes to, be it an error."""
    try:
        return await work
    except StatelessError as error:
        if error.location is not None:
            error.location = job.placed(error.location)
        return error
    except Exception as error:
        log.exception("Job %s failed", job)
        return full_disk(error) or StatelessError("The server failed; its log says why.")
