"""Finding the folder that is ours, and taking over what dead processes have left."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from ..errors import StorageError
from . import records
from .database import Database, reading, remove_copies
from .failures import translated
from .files import Files
from .folder import abandoned, claim
from .schema import DATABASE, FILES, last_aside, open_database, remove_database

log = logging.getLogger("comfyui_stateless.journal")


@dataclass(frozen=True, slots=True)
class Opened:
    """A folder that is ours, its files, and its database.

    Attributes:
        aside: Where one that was damaged lies.
    """

    path: Path
    files: Files
    database: Database
    aside: Path | None


def opened(folder: Path) -> Opened:
    """Claim ``folder``, or a subfolder where another process has it, and open what is there.

    Files that nothing refers to are deleted.

    Raises:
        StorageError: The folder cannot be used; the message says why.
    """
    with translated(folder), ExitStack() as undo:
        claimed = claim(folder)
        undo.callback(claimed.close)
        remove_copies(claimed.path)
        database = open_database(claimed.path)
        undo.callback(database.close)
        files = Files(claimed.path / FILES)
        for left in abandoned(folder, claimed.path):
            with closing(left):
                _take_over(left.path, database, files)
        files.sweep(lambda digest: records.is_needed(database, digest))
        reader = reading(claimed.path)
        undo.callback(reader.close)
        both = Database(claimed, database, reader)
        undo.pop_all()
        return Opened(claimed.path, files, both, last_aside(claimed.path))


def _take_over(left: Path, database: sqlite3.Connection, files: Files) -> None:
    """Bring what is in an abandoned folder into our own; each step may be done again."""
    if not (left / DATABASE).exists():
        return
    try:
        open_database(left).close()
        files.adopt(Files(left / FILES))
        records.absorb(database, left / DATABASE)
        remove_database(left)
    except (sqlite3.Error, OSError, StorageError) as error:
        log.warning("The journal in %s stays as it is: %s", left.name, error)
