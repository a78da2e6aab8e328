"""The one thread that writes: whatever waits together is committed together."""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

from ..errors import StorageError
from .database import Database

T = TypeVar("T")

MAX_TOGETHER = 64
"""Units of work in one transaction at most."""


class _Unit(Generic[T]):
    """A unit of work: all of it counts, or none."""

    def __init__(self, work: Callable[[sqlite3.Connection], T]) -> None:
        self.work = work
        self.future: Future[T] = Future()
        self._value: T | None = None

    def run(self, database: sqlite3.Connection, is_whole: Callable[[], bool]) -> bool:
        """Do the work inside a transaction; say whether it is now for the commit to decide.

        Raises:
            sqlite3.Error: No unit can be done; each may be run again, in another transaction.
        """
        if self.future.done() or not (
            self.future.running() or self.future.set_running_or_notify_cancel()
        ):
            return False
        database.execute("SAVEPOINT unit")
        try:
            self._value = self.work(database)
        except (sqlite3.Error, LookupError, StorageError) as error:
            # SQLite has given up all of it, as on a full disk, or its files are taken away.
            if not database.in_transaction or not is_whole():
                raise
            database.execute("ROLLBACK TO unit")
            database.execute("RELEASE unit")
            self.future.set_exception(error)
            return False
        database.execute("RELEASE unit")
        return True

    def committed(self) -> None:
        self.future.set_result(self._value)  # type: ignore[arg-type] # run has set it

    def failed(self, error: BaseException) -> None:
        if self.future.running() or (
            not self.future.done() and self.future.set_running_or_notify_cancel()
        ):
            self.future.set_exception(error)


class Writer:
    """Runs units of work on a connection, one after the other, on a thread of its own.

    Args:
        database: Nobody else uses the connection that writes until ``close`` has returned.
        after_commit: Called on the thread after each commit; what it raises is dropped.
    """

    def __init__(
        self,
        database: Database,
        after_commit: Callable[[sqlite3.Connection], None],
    ) -> None:
        self._database = database
        self._after_commit = after_commit
        self._lock = threading.Lock()
        self._is_closed = False
        self._waiting: queue.SimpleQueue[_Unit[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="stateless-journal", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Hand in a unit of work; its value comes when it is safe on the disk.

        What a unit may raise: ``sqlite3.Error``, ``LookupError``, ``StorageError``.

        Raises:
            StorageError: It is closed.
        """
        unit = _Unit(work)
        with self._lock:
            if self._is_closed:
                raise StorageError("The journal is closed.")
            self._waiting.put(unit)
        return unit.future

    def close(self) -> None:
        """Do what was handed in, and end the thread."""
        with self._lock:
            self._is_closed = True
            self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            units, is_last = self._together(first)
            self._commit(units)
            if self._database.is_whole:
                with suppress(sqlite3.Error, OSError):
                    self._after_commit(self._database.write_side)
            if is_last:
                return

    def _together(self, first: _Unit[Any]) -> tuple[list[_Unit[Any]], bool]:
        units = [first]
        with suppress(queue.Empty):
            while len(units) < MAX_TOGETHER:
                unit = self._waiting.get_nowait()
                if unit is None:
                    return units, True
                units.append(unit)
        return units, False

    def _commit(self, units: list[_Unit[Any]]) -> None:
        """Do the units in one transaction, once more where a node took away its files meanwhile."""
        try:
            try:
                done = self._together_in(self._database.usable(), units)
            except sqlite3.Error:
                if self._database.is_whole:
                    raise
                done = self._together_in(self._database.usable(), units)
        except (sqlite3.Error, StorageError, OSError) as error:
            for unit in units:
                unit.failed(error)
        else:
            for unit in done:
                unit.committed()

    def _together_in(
        self, database: sqlite3.Connection, units: list[_Unit[Any]]
    ) -> list[_Unit[Any]]:
        try:
            database.execute("BEGIN IMMEDIATE")
            done = [unit for unit in units if unit.run(database, lambda: self._database.is_whole)]
            database.execute("COMMIT")
        except sqlite3.Error:
            if self._database.is_whole:
                with suppress(sqlite3.Error):
                    database.execute("ROLLBACK")
            raise
        return done
