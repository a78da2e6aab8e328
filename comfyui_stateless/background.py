"""Jobs that were answered with 202: they go on without their caller, and outlive the process.

An accepted job is in the journal before its caller is told. It is run again when the process died
under it, until it was tried ``MAX_ATTEMPTS`` times; then its failure is what is announced.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from .engine import PromptResult
from .errors import Crashed, RequestError, StatelessError, StorageError, Unavailable
from .idempotency import Idempotency
from .inputs import Uploaded
from .jobs import UNRECORDED, Job, JobState, Record
from .journal import AcceptedJob, GivenUp, IdempotencyKey, Stats, StoredResult
from .pipeline import Services, run
from .recording import (
    Kept,
    Recorded,
    Resumed,
    recorded_files,
    recorded_request,
    unreadable_ending,
)
from .requests import PromptRequest
from .shared import SharedRun

if TYPE_CHECKING:
    from .journal.journal import Journal
    from .webhooks import Webhooks

log = logging.getLogger("comfyui_stateless.background")

MESSAGES_GRACE_S = 5.0
"""Seconds that messages under way get when the process ends; the journal keeps the others."""

SWEEP_INTERVAL_S = 30.0
"""How often results that are too old are deleted."""

Answer = Mapping[str, Any]
"""The body of a 202."""


class _Books(NamedTuple):
    """What is there once the journal is open."""

    journal: Journal
    webhooks: Webhooks
    idempotency: Idempotency


class Background:
    """Runs accepted jobs, and those that are shared. ``open`` it before anything else.

    Args:
        open_journal: Opens where accepted jobs are recorded.
        webhooks_for: Makes what sends the messages of a journal.
    """

    def __init__(
        self,
        services: Services,
        open_journal: Callable[[], Awaitable[Journal]],
        webhooks_for: Callable[[Journal], Webhooks],
    ) -> None:
        self._services = services
        self._open_journal = open_journal
        self._webhooks_for = webhooks_for
        self._books: _Books | None = None
        self._tasks: dict[asyncio.Task[None], Job | None] = {}
        self._reading = asyncio.Lock()

    async def open(self) -> None:
        """Open the journal.

        Raises:
            JournalBusy, NoSpace: Not now, but perhaps a moment later.
            StorageError: It cannot be used; the message says why.
        """
        journal = await self._open_journal()
        self._books = _Books(journal, self._webhooks_for(journal), Idempotency(journal))

    @property
    def is_open(self) -> bool:
        """Whether ``open`` has been called and succeeded."""
        return self._books is not None

    @property
    def damaged(self) -> str | None:
        """The folder in STATE_DIR with a journal that was damaged and is not used any more."""
        aside = None if self._books is None else self._books.journal.aside
        return None if aside is None else aside.name

    @property
    def idempotency(self) -> Idempotency:
        """Knows the keys of requests."""
        return self._opened.idempotency

    @property
    def _opened(self) -> _Books:
        if self._books is None:
            raise Unavailable("The journal is not open.", headers={"Retry-After": "5"})
        return self._books

    @property
    def _journal(self) -> Journal:
        return self._opened.journal

    @property
    def _webhooks(self) -> Webhooks:
        return self._opened.webhooks

    def emit(self, event: str, data: Mapping[str, Any], job: str) -> None:
        """Send a system event to the operator's webhook, if there is one for it."""
        if self._books is not None:
            self._books.webhooks.emit(event, data, job)

    async def resume(self) -> None:
        """Send what is due, and run the jobs again that the last process left unfinished.

        To be called before new jobs are accepted.

        Raises:
            StorageError: The journal cannot be read, and nothing was begun.
        """
        # All is read before anything begins: after an error this is called again.
        left = await self._journal.unfinished()
        await self._webhooks.start()
        for accepted in left:
            _ = self._begin(self._again(accepted))
        _ = self._begin(self._sweep())

    async def result(self, caller_id: str) -> StoredResult | None:
        """Return what is kept of the newest ended job of an id, None if nothing is.

        Raises:
            StorageError: The journal cannot be read.
        """
        return await self._journal.result(caller_id)

    async def result_of_run(self, run_id: str) -> StoredResult | None:
        """Return what is kept of a run, None if nothing is.

        Raises:
            StorageError: The journal cannot be read.
        """
        return await self._journal.result_of_run(run_id)

    async def waits(self, caller_id: str) -> bool:
        """Say whether a job of an id was accepted, and is not finished.

        Raises:
            StorageError: The journal cannot be read.
        """
        return await self._journal.is_unfinished(caller_id)

    async def accept(
        self,
        request: PromptRequest,
        uploads: Mapping[str, Uploaded],
        files: AsyncExitStack,
        key: IdempotencyKey | None = None,
    ) -> Answer:
        """Begin a job; return when it is safely recorded, with what its caller may be told.

        Cancelling the call before that stops the job.

        Args:
            files: Closed when the job needs the files of its request no more.

        Raises:
            StatelessError: Why it was not accepted.
        """
        await self._check(request)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        # Most come without files, and an empty stack takes 0.8 KB as long as the job waits.
        kept = files.pop_all() if uploads else nullcontext()
        task = self._begin(self._first(request, uploads, kept, key, answer))
        try:
            return await answer
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def _check(self, request: PromptRequest) -> None:
        """Refuse a receiver that can never be reached, before anything runs."""
        if request.receiver is None:
            return
        name = "webhook" if request.webhook_v2 is None else "webhook_v2"
        try:
            await self._webhooks.check_url(request.receiver)
        except StorageError as error:
            raise RequestError(
                f"{name}: {error.message}", location=name, details={"reason": error.code}
            ) from error

    def share(
        self,
        request: PromptRequest,
        uploads: Mapping[str, Uploaded],
        files: AsyncExitStack,
        key: IdempotencyKey | None = None,
    ) -> SharedRun:
        """Begin a job that callers wait for, and may join; with a key its result is kept.

        Args:
            files: Closed when the job needs the files of its request no more.

        Raises:
            QueueFull: As when any job is opened.
        """
        stack = files.pop_all()
        job = stack.enter_context(self._services.jobs.open(request))
        shared = SharedRun(job, stop_when_left=self._services.settings.cancel_on_disconnect)
        record = Kept(request, job.run_id, self._journal, key) if key else UNRECORDED
        _ = self._begin(self._shared(request, uploads, stack, shared, record))
        return shared

    def deliveries(self) -> Mapping[str, int]:
        """Return how many messages were delivered, retried, given up, thinned and dropped."""
        return {} if self._books is None else self._books.webhooks.outcomes()

    async def stats(self) -> Stats:
        """Return what the journal holds.

        Raises:
            StorageError: It cannot be read.
        """
        return await self._journal.stats()

    async def given_up(self) -> list[GivenUp]:
        """Return the messages that were given up within RESULT_TTL_S.

        Raises:
            StorageError: The journal cannot be read.
        """
        return await self._journal.given_up()

    def park(self) -> None:
        """Let go of the accepted jobs that wait and can be run after the next start."""
        for task, job in self._tasks.items():
            if job is not None and job.state is JobState.QUEUED and not job.needs_secrets:
                task.cancel()

    def abandon(self) -> tuple[Job, ...]:
        """Let go of every accepted job, also of those that run; return them."""
        jobs = tuple(job for job in self._tasks.values() if job is not None)
        for task, job in self._tasks.items():
            if job is not None:
                task.cancel()
        return jobs

    async def close(self) -> None:
        """Stop everything; what is not finished is run after the next start."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        books, self._books = self._books, None
        if books is not None:
            await books.webhooks.close(MESSAGES_GRACE_S)
            await books.journal.close()

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    async def _first(
        self,
        request: PromptRequest,
        uploads: Mapping[str, Uploaded],
        files: AbstractAsyncContextManager[object],
        key: IdempotencyKey | None,
        answer: asyncio.Future[Answer],
    ) -> None:
        def accepted(reply: Answer) -> None:
            if not answer.done():
                answer.set_result(reply)

        async with files:
            try:
                with self._services.jobs.open(request) as job:
                    record = Recorded(
                        request, job.run_id, self._journal, self._webhooks.submit,
                        accept=accepted, key=key,
                    )  # fmt: skip
                    await self._run(request, job, uploads, record)
            except StatelessError as error:
                if not answer.done():
                    answer.set_exception(error)
            except asyncio.CancelledError:
                if not answer.done():
                    answer.set_exception(_shutting_down())
                raise

    async def _shared(
        self,
        request: PromptRequest,
        uploads: Mapping[str, Uploaded],
        files: AsyncExitStack,
        shared: SharedRun,
        record: Record,
    ) -> None:
        services, job = self._services, shared.job
        async with files, services.engine.workspace(job.run_id) as workspace:
            try:
                outcome: PromptResult | StatelessError = await services.jobs.finish(
                    job, lambda: run(request, services, job, workspace, uploads, record), record
                )
            except StatelessError as error:
                outcome = error
            except asyncio.CancelledError:
                outcome = _shutting_down()
            await shared.settle(outcome)

    async def _again(self, accepted: AcceptedJob) -> None:
        """Run a job that a dead process left, or announce that it is not run any more."""
        try:
            await self._taken_up(accepted)
        except StorageError as error:
            log.error("Run %s stays for the next start: %s", accepted.run_id, error.message)

    async def _taken_up(self, accepted: AcceptedJob) -> None:
        services, run_id = self._services, accepted.run_id
        refusal = _refusal(accepted, services.settings.max_attempts)
        async with AsyncExitStack() as files:
            async with self._reading:  # so they come to their turns in the order of acceptance
                place = services.engine.workspace(str(uuid.uuid4()))
                folder = await files.enter_async_context(place)
                try:
                    contents = await self._journal.job_contents(run_id)
                    recorded = await asyncio.to_thread(contents.request.read)
                    resumed = recorded_request(recorded)
                except (OSError, ValueError, LookupError) as error:
                    log.error("The record of run %s cannot be read: %s", run_id, error)
                    await self._journal.finish(run_id, unreadable_ending())
                    return
                try:
                    uploads = await asyncio.to_thread(recorded_files, contents, folder.folder)
                except OSError as error:
                    log.error("The files of run %s cannot be read: %s", run_id, error)
                    refusal, uploads = _files_lost(), {}
            await self._resumed(resumed, run_id, uploads, refusal)

    async def _resumed(
        self,
        resumed: Resumed,
        run_id: str,
        uploads: Mapping[str, Uploaded],
        refusal: StatelessError | None,
    ) -> None:
        request = resumed.request
        record = Recorded(
            request, run_id, self._journal, self._webhooks.submit, graph=resumed.graph
        )
        with self._services.jobs.open(request, run_id) as job:
            try:
                await self._run(request, job, uploads, record, refusal)
            except StatelessError:
                log.debug("Job %s has ended", job)

    async def _run(
        self,
        request: PromptRequest,
        job: Job,
        uploads: Mapping[str, Uploaded],
        record: Recorded,
        refusal: StatelessError | None = None,
    ) -> None:
        """Run a job to its end, or to ``refusal`` if there is one.

        Raises:
            StatelessError: How it failed; it is recorded.
        """
        services = self._services
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = job
        async with services.engine.workspace(job.run_id) as workspace:

            async def work() -> PromptResult:
                if refusal is not None:
                    raise refusal
                return await run(request, services, job, workspace, uploads, record)

            try:
                await services.jobs.finish(job, work, record)
            except asyncio.CancelledError:
                if job.state is JobState.QUEUED:
                    await record.not_begun()
                raise

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            try:
                await self._journal.sweep()
            except StorageError as error:
                log.warning("Old results cannot be deleted: %s", error.message)


def _refusal(accepted: AcceptedJob, max_attempts: int) -> StatelessError | None:
    """Return why a job that was left is not run again, None if it is."""
    if accepted.attempts >= max_attempts:
        times = "once" if accepted.attempts == 1 else f"{accepted.attempts} times"
        return Crashed(
            f"The server died {times} while this job ran or was about to; it is not tried again.",
            details={"attempts": accepted.attempts},
        )
    if accepted.needs_secrets:
        return Crashed(
            "The server ended before this job was done, and the API keys that it came with are "
            "not kept: send it again.",
            details={"attempts": accepted.attempts},
        )
    return None


def _files_lost() -> StatelessError:
    return Crashed(
        "The server ended before this job was done, and the files that it came with cannot be "
        "read any more: send it again."
    )


def _shutting_down() -> StatelessError:
    return Unavailable("The server is shutting down.", headers={"Retry-After": "5"})
