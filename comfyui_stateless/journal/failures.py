"""What SQLite and the system say, in errors of ours."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import (
    FolderFailed,
    JournalBusy,
    NoSpace,
    StorageError,
    full_disk,
    is_out_of_descriptors,
)

PASSES = ("locked", "busy", "disk I/O error")
"""What SQLite says where the same may work a moment later."""


@contextmanager
def translated(folder: Path | None = None) -> Iterator[None]:
    """Raise errors of SQLite and of the system as ours.

    Args:
        folder: Named in the message: whoever starts a server has to know which one it is.

    Raises:
        JournalBusy, NoSpace, StorageError: As it is.
    """
    where = "STATE_DIR" if folder is None else f"STATE_DIR ({folder})"
    try:
        yield
    except sqlite3.Error as error:
        raise _kind(error)(f"The journal in {where} failed: {error}.") from error
    except OSError as error:
        kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError
        raise kind(f"The journal in {where} failed: {error.strerror}.") from error


@contextmanager
def reading() -> Iterator[None]:
    """Tell a file of a job's that cannot be read from a journal that cannot be written.

    Raises:
        FolderFailed: The file is gone, say.
    """
    try:
        yield
    except OSError as error:
        if is_out_of_descriptors(error) or full_disk(error):
            raise
        raise FolderFailed(
            f"A file of the job cannot be read any more: {error.strerror or error}."
        ) from error


def _kind(error: sqlite3.Error) -> type[StorageError]:
    if "is full" in str(error):
        return NoSpace
    is_passing = isinstance(error, sqlite3.OperationalError)
    return JournalBusy if is_passing and any(p in str(error) for p in PASSES) else StorageError
