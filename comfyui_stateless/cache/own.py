"""Opening files that only the cache makes: others may have put something else in their place."""

from __future__ import annotations

import os
from pathlib import Path

_AS_IT_IS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Without following a link, and without waiting for the other end of a pipe."""


def open_own(path: Path, flags: int) -> int:
    """Open, or make, a file; what a link leads to is left alone, and the link is removed.

    Raises:
        OSError: It cannot be opened.
    """
    try:
        return os.open(path, flags | _AS_IT_IS, 0o666)
    except OSError:
        if not path.is_symlink():
            raise
    path.unlink(missing_ok=True)
    return os.open(path, flags | _AS_IT_IS, 0o666)


def read_own(path: Path) -> bytes:
    """Return what is in a file.

    Raises:
        OSError: It cannot be read, or is none.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    return path.read_bytes()
