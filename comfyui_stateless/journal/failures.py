"""What SQLite and the system say, in errors of ours."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import NoSpace, StorageError


@contextmanager
def translated(folder: Path | None = None) -> Iterator[None]:
    """Raise errors of SQLite and of the system as ours.

    Args:
        folder: Named in the message: whoever starts a server has to know which one it is.

    Raises:
        NoSpace, StorageError: As it is.
    """
    where = "STATE_DIR" if folder is None else f"STATE_DIR ({folder})"
    try:
        yield
    except sqlite3.Error as error:
        kind = NoSpace if "is full" in str(error) else StorageError
        raise kind(f"The journal in {where} failed: {error}.") from error
    except OSError as error:
        kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError
        raise kind(f"The journal in {where} failed: {error.strerror}.") from error
