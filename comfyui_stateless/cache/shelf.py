"""The cached files on the disk; everything here blocks and belongs on a thread."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..errors import StorageError
from ..media import is_html
from ..naming import redacted
from . import records
from .bring import Brought, file_digest
from .locks import Holds, try_lock, use_lock
from .names import SNIFF_BYTES, extension_for, is_content, key_in, key_of
from .part import discard_useless, publish, telling_plainly
from .records import Record


class Cached(NamedTuple):
    """A file that is there.

    Attributes:
        record: What is known of it; None where nothing was written down.
    """

    key: str
    path: Path
    size: int
    record: Record | None

    @property
    def known(self) -> Record:
        """The record, or one that says nothing."""
        return self.record or Record(auth_required=False, url="")

    @property
    def is_vouched_for(self) -> bool:
        """Whether a record of ours is of just these bytes."""
        return self.record is not None and self.record.size == self.size

    @property
    def is_foreign(self) -> bool:
        """Whether somebody else put it there, so that the origin has to be asked about it."""
        return self.record is None or self.record.size is None


_Stamp = tuple[int, int, int]

KNOWN = 4096
"""Files whose records are remembered; those of others are read again."""


class Shelf:
    """The folder of the cache.

    Attributes:
        holds: What this process uses of it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.holds = Holds(folder)
        self._mutex = threading.Lock()
        self._remembering = threading.Lock()
        self._known: dict[str, tuple[_Stamp, Cached]] = {}

    def take(self, key: str) -> Cached | None:
        """Return a key's file and hold on to it; None, and no hold, where there is none."""
        self.holds.take(key)
        try:
            if (cached := self._find(key)) is not None:
                return cached
        except BaseException:
            self.holds.drop(key)
            raise
        self.holds.drop(key)
        return None

    def take_linked(self, path: Path) -> Cached | None:
        """Do as ``take`` with the file that a link leads to; None where that is not in here."""
        target = path.resolve()
        key = key_in(target.name) if target.parent == self.folder.resolve() else None
        return None if key is None else self.take(key)

    def _find(self, key: str) -> Cached | None:
        stamp, known = self._known.get(key, (None, None))
        if known is not None:
            with suppress(FileNotFoundError):
                stat = known.path.stat()
                if stamp == _stamp(stat):
                    _touch(known.path, stat)
                    return known
        with self._mutex:
            return self._search(key)

    def _search(self, key: str) -> Cached | None:
        try:
            found_now = os.scandir(self.folder)
        except FileNotFoundError:  # somebody has emptied the cache by deleting its folder
            return None
        with found_now as entries:
            paths = [
                Path(entry.path)
                for entry in entries
                if entry.name.startswith(key) and key_in(entry.name) == key
                and is_content(entry.name) and entry.is_file()
            ]  # fmt: skip
        found = [cached for path in paths if (cached := self._read(key, path)) is not None]
        return max(found, key=lambda cached: cached.is_vouched_for, default=None)

    def _read(self, key: str, path: Path) -> Cached | None:
        try:
            stat = path.stat()
        except FileNotFoundError:
            return None
        cached = Cached(key, path, stat.st_size, records.read(path))
        self._remember(key, _stamp(stat), cached)
        _touch(path, stat)
        return cached

    def _remember(self, key: str, stamp: _Stamp, cached: Cached) -> None:
        with self._remembering:
            self._known.pop(key, None)
            self._known[key] = (stamp, cached)
            if len(self._known) > KNOWN:
                del self._known[next(iter(self._known))]

    def forget(self, key: str) -> None:
        """Leave no lock of a key that nobody uses and that has no file."""
        if self._search(key) is None and (lock := try_lock(use_lock(self.folder, key))):
            # Seen again, alone: others may have fetched it in between.
            if self._search(key) is None:
                lock.remove()
            else:
                lock.release()

    def publish(self, brought: Brought, url: str, *, auth_required: bool) -> Cached:
        """Give a file that was brought its name, in place of any that the URL had.

        Raises:
            StorageError: The folder cannot be written to.
        """
        try:
            with telling_plainly():
                return self._publish(brought, url, auth_required=auth_required)
        except StorageError:
            discard_useless(brought.path, key_of(url))
            raise

    def _publish(self, brought: Brought, url: str, *, auth_required: bool) -> Cached:
        key, info = key_of(url), brought.info
        path = self.folder / f"{key}{extension_for(url, info, brought.head)}"
        record = Record(
            auth_required=auth_required,
            url=redacted(url),
            size=brought.size,
            version=info.version,
            media_type=info.media_type,
            filename=info.filename,
            is_html=is_html(brought.head, info.media_type),
            sha256=brought.sha256,
        )
        old = self._search(key)
        if old is not None and old.path == path:
            record = replace(record, links=old.known.links)
        records.write(path, record)
        publish(brought.path, key, path)
        if old is not None and old.path != path:
            old.path.unlink(missing_ok=True)
            records.record_path(old.path).unlink(missing_ok=True)
        return self._now(key, path)

    def adopt(self, cached: Cached, url: str, *, auth_required: bool) -> Cached:
        """Vouch for a file that somebody else put there and that the origin has just so."""
        with cached.path.open("rb") as file:
            head = file.read(SNIFF_BYTES)
        required = auth_required or cached.known.auth_required
        record = Record(required, redacted(url), cached.size, is_html=is_html(head, None))
        records.write(cached.path, record)
        return self._now(cached.key, cached.path)

    def digest(self, cached: Cached) -> str:
        """Return the SHA-256 of a file, in lower-case hex."""
        known = records.read(cached.path)
        if known is not None and known.size == cached.size and known.sha256 is not None:
            return known.sha256
        stat = cached.path.stat()
        sha256 = file_digest(cached.path, "sha256")
        with suppress(OSError):  # on a full disk it is computed again the next time
            records.update(cached.path, sha256=sha256)
            now = cached._replace(record=records.read(cached.path))
            self._remember(cached.key, _stamp(stat), now)
        return sha256

    def add_link(self, cached: Cached, link: Path) -> None:
        """Remember a link that leads to a file and goes when it does."""
        records.update(cached.path, link=str(link.absolute()))

    def _now(self, key: str, path: Path) -> Cached:
        cached = self._read(key, path)
        assert cached is not None, "a file that is held is not deleted"
        return cached


def _stamp(stat: os.stat_result) -> _Stamp:
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _touch(path: Path, stat: os.stat_result) -> None:
    """Note that a file is used now: mount options may keep the system from doing so."""
    with suppress(OSError):
        os.utime(path, ns=(time.time_ns(), stat.st_mtime_ns))
