"""What SQLite and the system say, in errors of ours."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import NoSpace, StorageError


@contextmanager
def translated() -> Iterator[None]:
    """Raise errors of SQLite and of the system as ours.

    Raises:
        NoSpace, StorageError: As it is.
    """
    try:
        yield
    except sqlite3.Error as error:
        kind = NoSpace if "is full" in str(error) else StorageError
        raise kind(f"The journal in STATE_DIR failed: {error}.") from error
    except OSError as error:
        kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else StorageError
        raise kind(f"The journal in STATE_DIR failed: {error.strerror}.") from error
