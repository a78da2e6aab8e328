"""What the journal knows, as SQL: functions of a connection inside a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import NoSpace
from .files import Files, Stored
from .values import (
    AcceptedJob,
    Content,
    DueMessage,
    GivenUp,
    IdempotencyKey,
    KeyOwner,
    Message,
    NewJob,
    Stats,
)

WHOLE = ""
"""The name of a content that is what it belongs to: a request, a body, a result's meta."""

SPARE_PAGES = 1000
"""Free pages that the database keeps for what comes next."""


@dataclass(frozen=True, slots=True)
class ResultRow:
    """A result without its contents."""

    run_id: str
    id: str
    finished_at: float


def accept(
    db: sqlite3.Connection, job: NewJob, contents: Mapping[str, Stored], max_bytes: int
) -> None:
    """Record a job.

    Raises:
        NoSpace: With it, jobs and messages would have more than ``max_bytes``.
    """
    key, digest = _key_columns(job.key)
    db.execute(
        "INSERT INTO jobs VALUES (?, ?, ?, ?, 0, ?, ?)",
        (job.run_id, job.id, _next_number(db), job.needs_secrets, key, digest),
    )
    _add_contents(db, "job", job.run_id, contents)
    if used_bytes(db, "job") + used_bytes(db, "message") > max_bytes:
        raise NoSpace("The journal is full: too many jobs and messages wait to be finished.")


def begin_attempt(db: sqlite3.Connection, run_id: str) -> int:
    """Count a run of a job; return how many that makes.

    Raises:
        LookupError: There is no such unfinished job.
    """
    db.execute("UPDATE jobs SET attempts = attempts + 1 WHERE run_id = ?", (run_id,))
    row = db.execute("SELECT attempts FROM jobs WHERE run_id = ?", (run_id,)).fetchone()
    if row is None:
        raise LookupError(run_id)
    return int(row[0])


def withdraw_attempt(db: sqlite3.Connection, run_id: str) -> None:
    """Take back what ``begin_attempt`` has counted."""
    db.execute("UPDATE jobs SET attempts = attempts - 1 WHERE run_id = ?", (run_id,))


def finish(db: sqlite3.Connection, run_id: str) -> tuple[str, int, IdempotencyKey | None]:
    """Take a job out; return the caller's id, its number, and its key.

    Raises:
        LookupError: There is no such unfinished job.
    """
    row = db.execute(
        "SELECT id, number, key, key_digest FROM jobs WHERE run_id = ?", (run_id,)
    ).fetchone()
    if row is None:
        raise LookupError(run_id)
    db.execute("DELETE FROM jobs WHERE run_id = ?", (run_id,))
    return row[0], row[1], row[2] and IdempotencyKey(row[2], row[3])


def unfinished(db: sqlite3.Connection) -> list[AcceptedJob]:
    """Return the jobs that are not finished, in the order in which they were accepted."""
    rows = db.execute("SELECT run_id, id, needs_secrets, attempts FROM jobs ORDER BY number")
    return [AcceptedJob(run, caller, bool(secret), n) for run, caller, secret, n in rows]


def is_unfinished(db: sqlite3.Connection, caller_id: str) -> bool:
    """Say whether a job of an id is not finished."""
    row = db.execute("SELECT 1 FROM jobs WHERE id = ? LIMIT 1", (caller_id,)).fetchone()
    return row is not None


def add_messages(
    db: sqlite3.Connection,
    run_id: str,
    messages: Sequence[DueMessage],
    bodies: Mapping[str, Stored],
    now: float,
) -> None:
    """Record messages as due at once."""
    for message in messages:
        db.execute(
            "INSERT INTO messages VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, NULL, NULL)",
            (
                message.message_id, _next_number(db), run_id, message.url, message.is_signed,
                now, now, now,
            ),
        )  # fmt: skip
        body = bodies[message.message_id]
        _add_contents(db, "message", message.message_id, {WHOLE: body})


def due_messages(db: sqlite3.Connection, now: float) -> list[Message]:
    """Return the messages that are due, in the order in which they were recorded.

    One that was noted after ``now`` is due at once: the clock has gone back, and what it said
    then means nothing any more.
    """
    rows = db.execute(
        "SELECT message_id, run_id, url, is_signed, attempts, noted_at, due_at FROM messages "
        "WHERE gave_up_at IS NULL ORDER BY number"
    )
    return [
        Message(key, run, url, bool(signed), attempts, max(0, due - now) if noted <= now else 0)
        for key, run, url, signed, attempts, noted, due in rows
    ]


def record_attempt(
    db: sqlite3.Connection, message_id: str, wait_s: float, error: str, now: float
) -> None:
    """Count an attempt that failed; the next is due after ``wait_s``."""
    db.execute(
        "UPDATE messages SET attempts = attempts + 1, noted_at = ?, due_at = ?, error = ? "
        "WHERE message_id = ?",
        (now, now + wait_s, error, message_id),
    )


def delivered(db: sqlite3.Connection, message_id: str) -> None:
    """Forget a message."""
    db.execute("DELETE FROM messages WHERE message_id = ?", (message_id,))


def give_up(db: sqlite3.Connection, message_id: str, error: str, now: float) -> None:
    """Keep a message only to be listed; its body goes."""
    db.execute(
        "UPDATE messages SET attempts = attempts + 1, gave_up_at = ?, error = ? "
        "WHERE message_id = ?",
        (now, error, message_id),
    )
    db.execute("DELETE FROM contents WHERE kind = 'message' AND owner = ?", (message_id,))


def given_up(db: sqlite3.Connection, since: float) -> list[GivenUp]:
    """Return the messages that were given up after ``since``."""
    rows = db.execute(
        "SELECT message_id, run_id, url, attempts, error, gave_up_at FROM messages "
        "WHERE gave_up_at > ? ORDER BY number",
        (since,),
    )
    return [GivenUp(*row) for row in rows]


def add_result(
    db: sqlite3.Connection,
    row: ResultRow,
    contents: Mapping[str, Stored],
    max_bytes: int,
    *,
    number: int | None = None,
    key: IdempotencyKey | None = None,
) -> None:
    """Record a result; of contents for which ``max_bytes`` has no room, only the size.

    Args:
        number: That of its job, where it was accepted: the newest result is that of the newest
            job. The next free one where it was not.
    """
    number = _next_number(db) if number is None else number
    values = (row.run_id, row.id, number, row.finished_at, *_key_columns(key))
    db.execute("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?)", values)
    room = max_bytes - used_bytes(db, "result")
    for position, (name, content) in enumerate(contents.items()):
        fits = content.size <= room or name == WHOLE
        room -= content.size if fits else 0
        kept = content if fits else Stored(content.size)
        _add_content(db, ("result", row.run_id, name, position), kept)
        if not fits and content.digest is not None:
            db.execute("INSERT OR IGNORE INTO dropped VALUES (?)", (content.digest,))


def newest_result(db: sqlite3.Connection, caller_id: str, since: float) -> ResultRow | None:
    """Return the result of the newest job of an id that was finished after ``since``."""
    row = db.execute(
        "SELECT run_id, id, finished_at FROM results WHERE id = ? AND finished_at > ? "
        "ORDER BY number DESC LIMIT 1",
        (caller_id, since),
    ).fetchone()
    return row and ResultRow(*row)


def result_of_run(db: sqlite3.Connection, run_id: str, since: float) -> ResultRow | None:
    """Return the result of a run that was finished after ``since``."""
    row = db.execute(
        "SELECT run_id, id, finished_at FROM results WHERE run_id = ? AND finished_at > ?",
        (run_id, since),
    ).fetchone()
    return row and ResultRow(*row)


def key_owner(db: sqlite3.Connection, key: str, since: float) -> KeyOwner | None:
    """Return the newest run of a key, unfinished or finished after ``since``."""
    row = db.execute(
        "SELECT run_id, key_digest, number FROM jobs WHERE key = ? "
        "UNION ALL SELECT run_id, key_digest, number FROM results "
        "WHERE key = ? AND finished_at > ? ORDER BY number DESC LIMIT 1",
        (key, key, since),
    ).fetchone()
    return row and KeyOwner(row[0], row[1])


def sweep(db: sqlite3.Connection, now: float, ttl_s: float) -> None:
    """Delete results and given-up messages that are older than ``ttl_s``.

    What is dated after ``now``, because the clock has gone back, counts from now on.
    """
    db.execute("UPDATE results SET finished_at = ? WHERE finished_at > ?", (now, now))
    db.execute("UPDATE messages SET gave_up_at = ? WHERE gave_up_at > ?", (now, now))
    db.execute("DELETE FROM results WHERE finished_at <= ?", (now - ttl_s,))
    db.execute("DELETE FROM messages WHERE gave_up_at <= ?", (now - ttl_s,))


def contents(
    db: sqlite3.Connection, kind: str, owner: str, files: Files
) -> dict[str, Content | None]:
    """Return what belongs to a job, a message or a result; None where only its size is known."""
    rows = db.execute(
        "SELECT name, size, data, digest FROM contents WHERE kind = ? AND owner = ? "
        "ORDER BY position",
        (kind, owner),
    )
    return {name: _content(size, data, digest, files) for name, size, data, digest in rows}


def used_bytes(db: sqlite3.Connection, kind: str) -> int:
    """Return what the contents of a kind amount to."""
    return int(db.execute("SELECT bytes FROM usage WHERE kind = ?", (kind,)).fetchone()[0])


def stats(db: sqlite3.Connection, now: float, since: float) -> Stats:
    """Return the numbers for the metrics."""
    (jobs,) = db.execute("SELECT count(*) FROM jobs").fetchone()
    due, oldest = db.execute(
        "SELECT count(*), min(created_at) FROM messages WHERE gave_up_at IS NULL"
    ).fetchone()
    return Stats(
        unfinished=jobs,
        due=due,
        oldest_due_s=0 if oldest is None else max(0, now - oldest),
        given_up=len(given_up(db, since)),
        bytes=used_bytes(db, "job") + used_bytes(db, "message"),
        result_bytes=used_bytes(db, "result"),
    )


def is_needed(db: sqlite3.Connection, digest: str) -> bool:
    """Say whether anything refers to a file."""
    row = db.execute("SELECT 1 FROM contents WHERE digest = ? LIMIT 1", (digest,)).fetchone()
    return row is not None


def purge(db: sqlite3.Connection, files: Files) -> None:
    """Give back what nothing refers to any more: files and pages; outside of a transaction."""
    dropped = [digest for (digest,) in db.execute("SELECT digest FROM dropped")]
    done = [digest for digest in dropped if is_needed(db, digest) or files.remove(digest)]
    if done:
        db.executemany("DELETE FROM dropped WHERE digest = ?", ((digest,) for digest in done))
    for digest in files.take_suspects():
        if not is_needed(db, digest):
            files.remove(digest)
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    if free > SPARE_PAGES:
        # As a script: a step gives back one page, and a statement without columns gets one step.
        db.executescript(f"PRAGMA incremental_vacuum({free - SPARE_PAGES})")


def absorb(db: sqlite3.Connection, other: Path) -> None:
    """Copy all records of another journal's database into this one; doing it twice is harmless."""
    db.execute("ATTACH ? AS other", (str(other),))
    try:
        db.execute("BEGIN IMMEDIATE")
        (offset,) = db.execute("SELECT value FROM main.counter").fetchone()
        for table in ("jobs", "messages", "results"):
            db.execute(f"UPDATE other.{table} SET number = number + ?", (offset,))  # noqa: S608 - our names
        for table in ("jobs", "messages", "results", "contents"):
            db.execute(f"INSERT OR IGNORE INTO main.{table} SELECT * FROM other.{table}")  # noqa: S608 - our names
        db.execute("UPDATE main.counter SET value = value + (SELECT value FROM other.counter)")
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
        db.execute("DETACH other")


def _next_number(db: sqlite3.Connection) -> int:
    db.execute("UPDATE counter SET value = value + 1")
    return int(db.execute("SELECT value FROM counter").fetchone()[0])


def _key_columns(key: IdempotencyKey | None) -> tuple[str | None, str | None]:
    return (None, None) if key is None else (key.key, key.digest)


def _add_contents(
    db: sqlite3.Connection, kind: str, owner: str, contents: Mapping[str, Stored]
) -> None:
    for position, (name, content) in enumerate(contents.items()):
        _add_content(db, (kind, owner, name, position), content)


def _add_content(db: sqlite3.Connection, place: tuple[str, str, str, int], content: Stored) -> None:
    db.execute(
        "INSERT INTO contents VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*place, content.size, content.data, content.digest),
    )


def _content(size: int, data: bytes | None, digest: str | None, files: Files) -> Content | None:
    if digest is not None:
        return Content(size, path=files.path(digest))
    return None if data is None else Content(size, data=data)
