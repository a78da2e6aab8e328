"""The database: its tables, and how it is opened, brought up to date, or begun anew."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

from ..errors import StorageError

log = logging.getLogger("comfyui_stateless.journal")

DATABASE = "journal.sqlite3"
FILES = "files"

WAIT_S = 5.0
"""How long a locked database is waited for."""

_DAMAGED = "damaged-"

_TEXTS = (
    "SELECT run_id, id, key, key_digest FROM jobs",
    "SELECT message_id, run_id, url, error FROM messages",
    "SELECT run_id, id, key, key_digest FROM results",
    "SELECT kind, owner, name, digest FROM contents",
    "SELECT digest FROM dropped",
)
"""What has to be readable, or no later reading could be relied on."""

# A content counts for 1024 bytes more than its size: its row, and those around it.
MIGRATIONS = (
    """
    CREATE TABLE counter (value INTEGER NOT NULL);
    INSERT INTO counter VALUES (0);

    CREATE TABLE jobs (
        run_id TEXT PRIMARY KEY, id TEXT NOT NULL, number INTEGER NOT NULL,
        needs_secrets INTEGER NOT NULL, attempts INTEGER NOT NULL,
        key TEXT, key_digest TEXT
    ) WITHOUT ROWID;
    CREATE INDEX jobs_by_key ON jobs (key) WHERE key IS NOT NULL;

    CREATE TABLE messages (
        message_id TEXT PRIMARY KEY, number INTEGER NOT NULL, run_id TEXT NOT NULL,
        url TEXT NOT NULL, is_signed INTEGER NOT NULL, attempts INTEGER NOT NULL,
        created_at REAL NOT NULL, noted_at REAL NOT NULL, due_at REAL NOT NULL,
        error TEXT, gave_up_at REAL
    ) WITHOUT ROWID;

    CREATE TABLE results (
        run_id TEXT PRIMARY KEY, id TEXT NOT NULL, number INTEGER NOT NULL,
        finished_at REAL NOT NULL, key TEXT, key_digest TEXT
    ) WITHOUT ROWID;
    CREATE INDEX results_by_id ON results (id, number);
    CREATE INDEX results_by_key ON results (key) WHERE key IS NOT NULL;

    CREATE TABLE contents (
        kind TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL, position INTEGER NOT NULL,
        size INTEGER NOT NULL, data BLOB, digest TEXT,
        PRIMARY KEY (kind, owner, name)
    );
    CREATE INDEX contents_by_digest ON contents (digest) WHERE digest IS NOT NULL;

    CREATE TABLE usage (kind TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO usage VALUES ('job', 0), ('message', 0), ('result', 0);
    CREATE TABLE dropped (digest TEXT PRIMARY KEY) WITHOUT ROWID;

    CREATE TRIGGER content_added AFTER INSERT ON contents BEGIN
        UPDATE usage SET bytes = bytes + 1024
            + CASE WHEN new.data IS NULL AND new.digest IS NULL THEN 0 ELSE new.size END
            WHERE kind = new.kind;
    END;
    CREATE TRIGGER content_removed AFTER DELETE ON contents BEGIN
        UPDATE usage SET bytes = bytes - 1024
            - CASE WHEN old.data IS NULL AND old.digest IS NULL THEN 0 ELSE old.size END
            WHERE kind = old.kind;
        INSERT OR IGNORE INTO dropped SELECT old.digest WHERE old.digest IS NOT NULL;
    END;
    CREATE TRIGGER job_removed AFTER DELETE ON jobs BEGIN
        DELETE FROM contents WHERE kind = 'job' AND owner = old.run_id;
    END;
    CREATE TRIGGER message_removed AFTER DELETE ON messages BEGIN
        DELETE FROM contents WHERE kind = 'message' AND owner = old.message_id;
    END;
    CREATE TRIGGER result_removed AFTER DELETE ON results BEGIN
        DELETE FROM contents WHERE kind = 'result' AND owner = old.run_id;
    END;
    """,
)
"""Each brings the database from the version that is its index to the next.

What SQLite notes down of them is compared: ``ALTER … RENAME``, whose notes differ between versions
of SQLite, is not for here.
"""


def open_database(folder: Path) -> sqlite3.Connection:
    """Open the database of a folder; one that is damaged is moved aside, and a new one begun.

    Raises:
        StorageError: A newer version of this package made it.
        sqlite3.Error, OSError: It cannot be opened, as on a full disk.
    """
    try:
        return _opened(folder)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # it may say so in broken text
        if isinstance(error, sqlite3.OperationalError):
            raise
        aside = _move_aside(folder)
        log.error(
            "The journal is damaged (%s): its jobs and messages are lost; it lies in %s now",
            error, aside,
        )  # fmt: skip
        return _opened(folder)


def connect(folder: Path) -> sqlite3.Connection:
    """Return a connection that any one thread at a time may use; transactions are explicit."""
    database = sqlite3.connect(
        folder / DATABASE, timeout=WAIT_S, isolation_level=None, check_same_thread=False
    )
    try:
        database.execute("PRAGMA synchronous = FULL")
    except BaseException:
        database.close()
        raise
    return database


def last_aside(folder: Path) -> Path | None:
    """Return where a damaged database of this folder lies, None if there is none."""
    return max(folder.glob(f"{_DAMAGED}*"), default=None)


def remove_database(folder: Path) -> None:
    """Delete the database and the contents of a folder whose claim we hold."""
    for path in parts(folder):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / FILES, ignore_errors=True)


def _opened(folder: Path) -> sqlite3.Connection:
    (folder / FILES).mkdir(mode=0o700, exist_ok=True)
    _check_header(folder / DATABASE)
    os.close(os.open(folder / DATABASE, os.O_RDWR | os.O_CREAT, 0o600))
    database = connect(folder)
    try:
        # The kind of vacuum is laid down with the first page, which WAL writes.
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA journal_size_limit = 16777216")
        _check(database)
        _migrate(database, folder)
        _check_texts(database)
    except BaseException:
        database.close()
        raise
    return database


def _check_header(path: Path) -> None:
    """Find what SQLite would only take for a file of another's, that it may not write to."""
    if path.is_fifo():  # whoever opens it waits for somebody at its other end
        raise OSError(errno.EINVAL, f"{path.name} is a pipe, not a file")
    with suppress(FileNotFoundError), path.open("rb") as file:
        head = file.read(100)
        if len(head) == 100 and not (1 <= head[18] <= 2 and head[47] <= 4):
            raise sqlite3.DatabaseError("its header is wrong")


def _check_texts(database: sqlite3.Connection) -> None:
    """Read what ``quick_check`` does not look into: texts that are none, tables that are gone."""
    try:
        kinds = {kind for (kind,) in database.execute("SELECT kind FROM usage")}
        counters = database.execute("SELECT value FROM counter").fetchall()
        for query in _TEXTS:
            for _ in database.execute(query):
                pass
    except sqlite3.OperationalError as error:
        raise sqlite3.DatabaseError(str(error)) from error
    if not ({"job", "message", "result"} <= kinds and counters):
        raise sqlite3.DatabaseError("its counters are gone")


def _check(database: sqlite3.Connection) -> None:
    with closing(database.execute("PRAGMA quick_check(1)")) as cursor:
        (verdict,) = cursor.fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def _migrate(database: sqlite3.Connection, folder: Path) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StorageError(
            f"The journal in STATE_DIR ({folder}) was made by a newer version of this extension."
        )
    if _tables(database) != _tables_of(version):
        raise sqlite3.DatabaseError("its tables are not those of its version")
    _bring_forth(database, version, len(MIGRATIONS))


def _bring_forth(database: sqlite3.Connection, version: int, to: int) -> None:
    for number, script in enumerate(MIGRATIONS[version:to], version + 1):
        database.executescript(f"BEGIN; {script}; PRAGMA user_version = {number}; COMMIT;")


def _tables(database: sqlite3.Connection) -> list[tuple[str, ...]]:
    """Return how all tables, indexes and triggers were made."""
    rows = database.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name")
    return rows.fetchall()


def _tables_of(version: int) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        _bring_forth(database, 0, max(0, version))
        return _tables(database)


def _move_aside(folder: Path) -> Path:
    """Move what is damaged into a folder of its own; only the last such folder is kept."""
    for old in folder.glob(f"{_DAMAGED}*"):
        shutil.rmtree(old, ignore_errors=True)
    aside = folder / f"{_DAMAGED}{time.strftime('%Y%m%dT%H%M%S')}"
    aside.mkdir(mode=0o700)
    for path in (*parts(folder), folder / FILES):
        if path.exists():
            path.rename(aside / path.name)
    return aside


def parts(folder: Path) -> tuple[Path, ...]:
    """Return the files of a folder's database: itself, its log, the log's index."""
    return tuple(folder / f"{DATABASE}{suffix}" for suffix in ("", "-wal", "-shm"))
