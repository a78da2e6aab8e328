"""The journal: one SQLite database and the files beside it, used from the event loop.

Nothing here blocks the loop. Large contents are copied on threads, all writing is one thread's,
all reading another's. When a method that records something has returned, it is on the disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..errors import StorageError
from ..wire import own_json, to_json
from . import records
from .failures import reading, translated
from .files import Stored
from .opening import Opened, opened
from .records import WHOLE, ResultRow
from .values import (
    AcceptedJob,
    Content,
    DueMessage,
    GivenUp,
    IdempotencyKey,
    JobContents,
    KeyOwner,
    Message,
    NewJob,
    Source,
    Stats,
    StoredResult,
)
from .writer import Writer

T = TypeVar("T")

COPIERS = 16
"""Threads that copy contents, and wait for the writer together."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept, and for how long.

    Attributes:
        max_bytes: Of accepted jobs and due messages, from which no job is accepted any more. What
            jobs that were accepted bring forth is never refused.
        result_ttl_s: RESULT_TTL_S; with 0, no result is kept.
        result_max_bytes: RESULT_MAX_BYTES.
    """

    max_bytes: int = 16 * 1024**3
    result_ttl_s: float = 600
    result_max_bytes: int = 2 * 1024**3


class Journal:
    """What has to outlive the process; made by ``open``.

    All methods raise ``StorageError`` where the disk fails, ``NoSpace`` where it is full.

    Attributes:
        folder: The folder that this process owns.
        aside: Where a journal that was damaged lies, None if none was, or it was taken away.
    """

    def __init__(self, folder: Opened, limits: Limits, clock: Callable[[], float]) -> None:
        self.folder = folder.path
        self.aside = folder.aside
        self._files = files = folder.files
        self._limits = limits
        self._clock = clock
        self._database = folder.database
        self._writer = Writer(self._database, lambda db: records.purge(db, files))
        self._reader = ThreadPoolExecutor(1, "stateless-journal-reader")
        self._copiers = ThreadPoolExecutor(COPIERS, "stateless-journal-copier")

    @classmethod
    async def open(
        cls, folder: Path, limits: Limits | None = None, clock: Callable[[], float] = time.time
    ) -> Journal:
        """Open the journal of ``folder``, or of a subfolder where another process has that.

        What processes that died left there, and in subfolders, is taken over.

        Raises:
            JournalBusy, NoSpace: Not now, but perhaps a moment later.
            StorageError: The folder cannot be used; the message says why.
        """
        return cls(await asyncio.to_thread(opened, folder), limits or Limits(), clock)

    async def close(self) -> None:
        """End what was begun, and let go of the folder."""
        await asyncio.to_thread(self._close)

    async def accept(self, job: NewJob) -> None:
        """Record a job, before anybody is told that it is accepted.

        Raises:
            NoSpace: Too much is due already; nothing was recorded.
        """

        def work(db: sqlite3.Connection, contents: dict[str, Stored]) -> None:
            self._require_in_place()
            records.accept(db, job, contents, self._limits.max_bytes)

        await self._record({WHOLE: job.request, **job.files}, work)

    def _require_in_place(self) -> None:
        """See that what is written is found after a restart."""
        if not self._database.is_in_place:
            raise StorageError(
                "The journal in STATE_DIR was deleted, moved or replaced while it is in use: until "
                "the server is started again, it accepts no job that has to outlive it."
            )

    async def begin_attempt(self, run_id: str) -> int:
        """Record that a job is about to run; return which attempt that is, from 1.

        Raises:
            LookupError: There is no such unfinished job.
        """
        return await self._write(lambda db: records.begin_attempt(db, run_id))

    async def withdraw_attempt(self, run_id: str) -> None:
        """Record that a job did not run after all."""
        await self._write(lambda db: records.withdraw_attempt(db, run_id))

    async def finish(
        self,
        run_id: str,
        outcome: Mapping[str, Any],
        messages: Sequence[DueMessage] = (),
        files: Mapping[str, Source] | None = None,
    ) -> list[Message]:
        """Record in one step that a job is done, what came out, and what is due because of it.

        Args:
            outcome: JSON values, to be found as its result's ``meta``.
            messages: Sent from now on until they are delivered or given up.
            files: Outputs that are to stay readable, by their names.

        Returns:
            The messages, to be handed to the sender.

        Raises:
            LookupError: There is no such unfinished job.
        """
        await self._copying(self._finish, run_id, outcome, messages, files or {})
        return [Message(m.message_id, run_id, m.url, m.is_signed) for m in messages]

    async def unfinished(self) -> list[AcceptedJob]:
        """Return the jobs that were accepted and are not finished, oldest first."""
        return await self._read(records.unfinished)

    async def is_unfinished(self, caller_id: str) -> bool:
        """Say whether a job of this id was accepted and is not finished."""
        return await self._read(lambda db: records.is_unfinished(db, caller_id))

    async def job_contents(self, run_id: str) -> JobContents:
        """Return what an unfinished job came with.

        Raises:
            LookupError: There is no such unfinished job.
        """
        found = await self._contents("job", run_id)
        return JobContents(request=found.pop(WHOLE), files=found)

    async def due_messages(self) -> list[Message]:
        """Return the messages that are neither delivered nor given up, oldest first."""
        return await self._read(lambda db: records.due_messages(db, self._clock()))

    async def body(self, message_id: str) -> Content:
        """Return the body of a message that is due.

        Raises:
            LookupError: There is no such message.
        """
        return (await self._contents("message", message_id))[WHOLE]

    async def record_attempt(self, message_id: str, wait_s: float, error: str) -> None:
        """Record that an attempt failed, why, and in how many seconds the next is due."""
        await self._write(
            lambda db: records.record_attempt(db, message_id, wait_s, error, self._clock())
        )

    async def delivered(self, message_id: str) -> None:
        """Record that a message has arrived."""
        await self._write(lambda db: records.delivered(db, message_id))

    async def give_up(self, message_id: str, error: str) -> None:
        """Record that a message is not tried any more; it stays listed for RESULT_TTL_S."""
        await self._write(lambda db: records.give_up(db, message_id, error, self._clock()))

    async def given_up(self) -> list[GivenUp]:
        """Return the messages that were given up within RESULT_TTL_S."""
        return await self._read(lambda db: records.given_up(db, self._since()))

    async def store_result(
        self,
        run_id: str,
        caller_id: str,
        meta: Mapping[str, Any],
        files: Mapping[str, Source] | None = None,
        key: IdempotencyKey | None = None,
    ) -> None:
        """Keep the result of a job that was never accepted here: a synchronous one."""
        await self._copying(self._store_result, (run_id, caller_id), meta, files or {}, key)

    async def result(self, caller_id: str) -> StoredResult | None:
        """Return the result of the newest job of an id, None if there is none any more."""
        return await self._result(lambda db: records.newest_result(db, caller_id, self._since()))

    async def result_of_run(self, run_id: str) -> StoredResult | None:
        """Return the result of a run, None if there is none any more."""
        return await self._result(lambda db: records.result_of_run(db, run_id, self._since()))

    async def key(self, key: str) -> KeyOwner | None:
        """Return the run that an idempotency key belongs to, None if it is free."""
        return await self._read(lambda db: records.key_owner(db, key, self._since()))

    async def stats(self) -> Stats:
        """Return the numbers for the metrics."""
        return await self._read(lambda db: records.stats(db, self._clock(), self._since()))

    async def sweep(self) -> None:
        """Delete what is older than RESULT_TTL_S; to be called now and then."""
        ttl_s = self._limits.result_ttl_s
        await self._write(lambda db: records.sweep(db, self._clock(), ttl_s))

    def _finish(
        self,
        run_id: str,
        outcome: Mapping[str, Any],
        messages: Sequence[DueMessage],
        files: Mapping[str, Source],
    ) -> None:
        with (
            self._files.staged({m.message_id: m.body for m in messages}) as bodies,
            self._result_contents(outcome, files) as contents,
        ):

            def work(db: sqlite3.Connection) -> None:
                caller_id, number, key = records.finish(db, run_id)
                now = self._clock()
                records.add_messages(db, run_id, messages, bodies, now)
                if self._limits.result_ttl_s:
                    row, limit = ResultRow(run_id, caller_id, now), self._limits.result_max_bytes
                    records.add_result(db, row, contents, limit, number=number, key=key)

            self._writer.submit(work).result()

    def _store_result(
        self,
        ids: tuple[str, str],
        meta: Mapping[str, Any],
        files: Mapping[str, Source],
        key: IdempotencyKey | None,
    ) -> None:
        if not self._limits.result_ttl_s:
            return
        limit = self._limits.result_max_bytes
        with self._result_contents(meta, files) as contents:

            def work(db: sqlite3.Connection) -> None:
                row = ResultRow(*ids, finished_at=self._clock())
                records.add_result(db, row, contents, limit, key=key)

            self._writer.submit(work).result()

    @contextmanager
    def _result_contents(
        self, meta: Mapping[str, Any], files: Mapping[str, Source]
    ) -> Iterator[dict[str, Stored]]:
        """Write out a result; files that cannot fit are not even copied."""
        if not self._limits.result_ttl_s:
            yield {}
            return
        room = self._limits.result_max_bytes - self._writer.submit(_result_bytes).result()
        sizes = {name: _size(source) for name, source in files.items()}
        fitting = {name: source for name, source in files.items() if sizes[name] <= room}
        whole = to_json(meta)
        with self._files.staged({WHOLE: whole, **fitting}) as stored:
            named = {name: stored.get(name, Stored(sizes[name])) for name in files}
            yield {WHOLE: stored[WHOLE], **named}

    async def _result(
        self, find: Callable[[sqlite3.Connection], ResultRow | None]
    ) -> StoredResult | None:
        def work(
            db: sqlite3.Connection,
        ) -> tuple[ResultRow, dict[str, Content | None]] | None:
            row = find(db)
            if row is None:
                return None
            return row, records.contents(db, "result", row.run_id, self._files)

        found = await self._read(work)
        if found is None:
            return None
        row, contents = found
        whole = contents.pop(WHOLE, None)
        meta = _read_meta(b"" if whole is None else await self._copying(whole.read))
        return StoredResult(row.run_id, row.id, row.finished_at, meta, contents)

    async def _contents(self, kind: str, owner: str) -> dict[str, Content]:
        found = await self._read(lambda db: records.contents(db, kind, owner, self._files))
        if WHOLE not in found:
            raise LookupError(owner)
        return {name: content for name, content in found.items() if content is not None}

    async def _record(
        self,
        sources: Mapping[str, Source],
        work: Callable[[sqlite3.Connection, dict[str, Stored]], T],
    ) -> T:
        def on_thread() -> T:
            with self._files.staged(sources) as contents:
                return self._writer.submit(lambda db: work(db, contents)).result()

        return await self._copying(on_thread)

    async def _copying(self, work: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        with translated():
            return await loop.run_in_executor(self._copiers, work, *arguments)

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with translated():
            return await asyncio.wrap_future(self._writer.submit(work))

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        loop = asyncio.get_running_loop()
        with translated():
            return await loop.run_in_executor(self._reader, self._database.read, work, self._remake)

    def _remake(self) -> None:
        self._writer.submit(lambda _: None).result()

    def _since(self) -> float:
        return self._clock() - self._limits.result_ttl_s

    def _close(self) -> None:
        self._copiers.shutdown()
        self._reader.shutdown()
        self._writer.close()
        self._database.close()


def _read_meta(whole: bytes) -> Any:
    try:
        return own_json(whole)
    except ValueError:
        raise StorageError("What the journal kept of this job is damaged.") from None


def _result_bytes(db: sqlite3.Connection) -> int:
    return records.used_bytes(db, "result")


def _size(source: Source) -> int:
    """Return the bytes of a source, 0 where that is known only when it is written."""
    if isinstance(source, bytes):
        return len(source)
    with reading():
        return source.stat().st_size if isinstance(source, Path) else 0
