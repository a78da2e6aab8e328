"""The connections to the database, and how they are made anew when a node took their files away.

A node shares the process: it can close the descriptors that SQLite writes to, and delete the files
behind them. Either is looked for before each transaction, since SQLite would notice neither.
"""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from ..errors import StorageError
from .descriptors import Identity, held_of, identity
from .files import sync_folder
from .folder import Claim
from .schema import DATABASE, connect, open_database, parts

log = logging.getLogger("comfyui_stateless.journal")

T = TypeVar("T")

RESCUE = "rescue"
"""The folder for copies that are being made; what is in it goes at the next start."""


class Database:
    """A connection that writes and one that reads.

    Args:
        claimed: The folder of the database.
        writer: Used by one thread alone, which calls ``usable``.
        reader: Used inside ``reading`` alone.
    """

    def __init__(
        self, claimed: Claim, writer: sqlite3.Connection, reader: sqlite3.Connection
    ) -> None:
        self._claim = claimed
        self._path = claimed.path / DATABASE
        self._reading = threading.Lock()
        self._adopt(writer, reader)

    def _adopt(self, writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        self.write_side, self.read_side = writer, reader
        for side in (writer, reader):  # each opens its files when it is first used
            side.execute("SELECT value FROM counter").fetchall()
        self._names: dict[Path, Identity | None] = {
            path: identity(path) for path in parts(self._claim.path)
        }
        self._held = held_of(self._names.values())

    @property
    def is_in_place(self) -> bool:
        """Whether a restart would find it: SQLite writes on to a file that was deleted."""
        return identity(self._path) == self._names[self._path]

    @property
    def is_whole(self) -> bool:
        """Whether the descriptors are its own, so that nothing else is read or written."""
        return self._claim.is_held and all(each.is_held for each in self._held)

    def usable(self) -> sqlite3.Connection:
        """Return the connection that writes, made anew if need be; for the thread that writes.

        Raises:
            StorageError, sqlite3.Error, OSError: It cannot be made anew; the next call tries again.
        """
        if not self.is_whole:
            log.error("A node has closed the journal's files; it is opened anew")
            self._remake(self._from_files)
        elif self.is_in_place and self._has_lost_a_part():
            log.error("A part of the journal in STATE_DIR was deleted; it is written anew")
            self._remake(self._from_itself)
        return self.write_side

    def read(self, work: Callable[[sqlite3.Connection], T], remake: Callable[[], object]) -> T:
        """Do what only reads.

        Args:
            remake: Has ``usable`` called on the thread that writes.

        Raises:
            StorageError, sqlite3.Error, OSError: It cannot be read.
        """
        if not self.is_whole:
            remake()
        try:
            with self._reading:
                return work(self.read_side)
        except sqlite3.Error:
            if self.is_whole:
                raise
        remake()
        with self._reading:
            return work(self.read_side)

    def close(self) -> None:
        """Close the connections; those whose descriptors are another's now are left open."""
        if self.is_whole:
            self.read_side.close()
            self.write_side.close()
        else:
            self._leave()
        self._claim.close()

    def _has_lost_a_part(self) -> bool:
        return any(identity(path) != known for path, known in self._names.items())

    def _remake(self, prepare: Callable[[], None]) -> None:
        with self._reading:
            prepare()
            writer = open_database(self._claim.path)
            try:
                self._adopt(writer, reading(self._claim.path))
            except BaseException:
                writer.close()
                raise
        log.warning("The journal is in order again")

    def _from_itself(self) -> None:
        """Have all that SQLite knows in the database's own file, and let go of the others."""
        row = self.write_side.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if row[0]:
            raise StorageError("The journal is in use by another program; a part of it is gone.")
        self.read_side.close()
        self.write_side.close()

    def _from_files(self) -> None:
        """Put a copy of the database in its place, and leave the connections as they are.

        SQLite knows files by their inodes, and shares what it knows of one between connections:
        with the same file, a new connection would use descriptors of the old one.
        """
        if not self.is_in_place:
            raise StorageError("The journal in STATE_DIR was deleted while it is in use.")
        if self._has_lost_a_part():
            log.error("A part of the journal was deleted too: what came last may be lost")
        self._claim.renew()
        whole = _whole_copy(self._claim.path)
        self._leave()
        _put_in_place(whole, self._claim.path)
        self._names[self._path] = identity(self._path)

    def _leave(self) -> None:
        """Keep the connections from ever being closed: they would close what is another's."""
        for side in (self.write_side, self.read_side):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(side))


def reading(folder: Path) -> sqlite3.Connection:
    """Return a connection that nothing is written with."""
    database = connect(folder)
    database.execute("PRAGMA query_only = ON")
    return database


def remove_copies(folder: Path) -> None:
    """Delete what an earlier process has left of copies."""
    shutil.rmtree(folder / RESCUE, ignore_errors=True)


def _whole_copy(folder: Path) -> Path:
    """Return a copy of a database, with all that is in its log, as one file on the disk."""
    rescue = folder / RESCUE
    rescue.mkdir(mode=0o700, exist_ok=True)
    for path in parts(rescue):
        path.unlink(missing_ok=True)
    for source, target in zip(parts(folder)[:2], parts(rescue)[:2], strict=True):
        with suppress(FileNotFoundError):
            shutil.copyfile(source, target)
            target.chmod(0o600)
    with closing(connect(rescue)) as copy:
        copy.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    with (rescue / DATABASE).open("rb") as file:
        os.fsync(file.fileno())
    return rescue / DATABASE


def _put_in_place(whole: Path, folder: Path) -> None:
    """Replace a database and its log.

    The old log says nothing that the copy does not, should the process end in between.
    """
    path, *others = parts(folder)
    with suppress(OSError):  # its inode stays, so that no file that SQLite meets later has it
        os.link(path, whole.with_name(f"left-{path.stat().st_ino}"))
    whole.replace(path)
    sync_folder(folder)
    for other in others:
        other.unlink(missing_ok=True)
