"""A file that is not whole yet: what of it is there, and what has to be known to go on with it.

The bytes are in ``<key>.part``. ``<key>.state.part`` says which version of the object they are of
and what is missing; it says so only after the bytes have reached the disk. Without a version that
the origin vouches for, nothing is carried on: bytes of two versions never meet in one file.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

from ..errors import FolderFailed, NoSpace
from ..storage.base import Digest, ObjectInfo, Span
from ..wire import own_json
from .own import open_own, read_own
from .records import replace_file

MARGIN_BYTES = 64 * 1024 * 1024
"""Bytes of the disk that a download leaves free."""

MIN_SHARE = 4 * 1024 * 1024
"""Bytes below which half of what is left is not worth a connection of its own."""

_FULL = (errno.ENOSPC, errno.EDQUOT if hasattr(errno, "EDQUOT") else errno.ENOSPC)


class Gap:
    """Bytes that are missing: from ``start``, which moves as they come, to ``end``.

    ``end`` is None while nobody knows where the object ends.
    """

    __slots__ = ("end", "is_taken", "start")

    def __init__(self, start: int, end: int | None, *, is_taken: bool = False) -> None:
        self.start = start
        self.end = end
        self.is_taken = is_taken

    def span(self, info: ObjectInfo) -> Span:
        """Return what to ask the origin for."""
        end = None if self.end == info.size else self.end
        return Span(self.start, end, info.version)


class Part:
    """The file, its gaps, and who fills which. May be used by several threads.

    Attributes:
        info: What the origin says of the object; None before it has answered.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / f"{key}.part"
        self._state_path = _state_path(folder, key)
        self._mutex = threading.Lock()
        self._saving = threading.Lock()
        self._file = open_own(self.path, os.O_RDWR | os.O_CREAT)
        self.info: ObjectInfo | None = None
        self._gaps: list[Gap] = []
        if (state := _load(self._state_path, os.fstat(self._file).st_size)) is not None:
            self.info, self._gaps = state

    @staticmethod
    def is_resumable(folder: Path, key: str) -> bool:
        """Say whether a download can go on with what is there of it."""
        try:
            size = (folder / f"{key}.part").stat().st_size
        except FileNotFoundError:
            return False
        return _load(_state_path(folder, key), size) is not None

    def close(self) -> None:
        """Close the file; what is there stays."""
        os.close(self._file)

    def discard(self) -> None:
        """Delete what is there, once it is closed."""
        self.discard_state()
        self.path.unlink(missing_ok=True)

    def discard_state(self) -> None:
        """Forget what is there; the next bytes are the first."""
        self._state_path.unlink(missing_ok=True)
        with self._mutex:
            self.info, self._gaps = None, []

    def begin(self, info: ObjectInfo) -> Gap:
        """Start anew with an object; return its one gap, taken."""
        self._state_path.unlink(missing_ok=True)
        os.ftruncate(self._file, 0)
        gap = Gap(0, info.size, is_taken=True)
        with self._mutex:
            self.info = info
            self._gaps = [gap] if info.size != 0 else []
        return gap

    @property
    def done(self) -> int:
        """Bytes that are there."""
        with self._mutex:
            if self.info is None:
                return 0
            if self.info.size is None:
                return self._gaps[0].start if self._gaps else 0
            return self.info.size - sum((g.end or 0) - g.start for g in self._gaps)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return self.info is not None and not self._gaps

    @property
    def can_resume(self) -> bool:
        """Whether the origin can be asked for what is missing."""
        return self.info is not None and self.info.has_ranges and self.info.version is not None

    @property
    def is_noted(self) -> bool:
        """Whether it says on the disk how to go on; it may not have been possible to write that."""
        return self._state_path.exists()

    def take(self, *, split: bool) -> Gap | None:
        """Return a gap to fill that nobody fills, or the back half of the largest; None if neither.

        Args:
            split: Whether halves are given.
        """
        with self._mutex:
            gap = next((g for g in self._gaps if not g.is_taken), None)
            if gap is None and split:
                gap = self._half()
            if gap is not None:
                gap.is_taken = True
            return gap

    def _half(self) -> Gap | None:
        sizes = [((g.end - g.start), g) for g in self._gaps if g.end is not None]
        size, largest = max(sizes, key=lambda pair: pair[0], default=(0, None))
        if largest is None or size < 2 * MIN_SHARE:
            return None
        half = Gap(largest.start + size // 2, largest.end)
        largest.end = half.start
        self._gaps.append(half)
        return half

    def give_back(self, gap: Gap) -> None:
        """Let others fill a gap."""
        with self._mutex:
            gap.is_taken = False

    def room(self, gap: Gap, most: int) -> int:
        """Return how many bytes, at most ``most``, may be read for a gap now."""
        with self._mutex:
            return most if gap.end is None else min(most, max(0, gap.end - gap.start))

    def fill(self, gap: Gap, data: memoryview) -> None:
        """Write the next bytes of a gap."""
        _write_at(self._file, data, gap.start)
        with self._mutex:
            # A gap may have been halved since its bytes were asked for: the rest is the other's.
            gap.start += len(data) if gap.end is None else min(len(data), gap.end - gap.start)
            if gap.start == gap.end:
                self._gaps.remove(gap)

    def end_here(self, gap: Gap) -> None:
        """Note that the object ends where a gap begins."""
        with self._mutex:
            assert self.info is not None
            self.info = replace(self.info, size=gap.start)
            self._gaps.remove(gap)

    def save(self) -> None:
        """Bring what is there to the disk, then note that it is there."""
        with self._saving:
            with self._mutex:
                info, gaps = self.info, [(gap.start, gap.end) for gap in self._gaps]
            if info is not None and self.can_resume:
                _sync(self._file)
                replace_file(self._state_path, _state(info, gaps))


def require_space(folder: Path, size: int) -> None:
    """See that a disk can take a file.

    Args:
        size: Bytes that are still to come.

    Raises:
        NoSpace: It cannot.
    """
    if (free := shutil.disk_usage(folder).free) < size + MARGIN_BYTES:
        raise NoSpace(
            f"The disk of CACHE_DIR is too full: at least {size} bytes are still to come and {free} are "
            f"free, of which {MARGIN_BYTES} stay so. Make room or set LRU_CACHE_SIZE_GB.",
            details={"needed_bytes": size, "free_bytes": free},
        )


@contextmanager
def telling_plainly() -> Iterator[None]:
    """Raise what the system says of the cache's folder as an error for callers.

    Raises:
        NoSpace: The disk is full.
        FolderFailed: The folder cannot be used.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NoSpace("The disk of CACHE_DIR was full before the download was done.") from error
        raise FolderFailed(f"CACHE_DIR cannot be used: {error.strerror or error}.") from error


def publish(part: Path, key: str, path: Path) -> None:
    """Give a whole file its name; from then on it counts."""
    part.replace(path)
    _state_path(path.parent, key).unlink(missing_ok=True)
    _sync_folder(path.parent)


def discard_useless(part: Path, key: str) -> None:
    """Delete what could not get its name, unless a download can go on with it."""
    if not _state_path(part.parent, key).exists():
        part.unlink(missing_ok=True)


def sync(path: Path) -> int:
    """Bring a file to the disk; return its size in bytes."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


def _state_path(folder: Path, key: str) -> Path:
    return folder / f"{key}.state.part"


def _state(info: ObjectInfo, gaps: list[tuple[int, int | None]]) -> dict[str, object]:
    digest = info.digest and list(astuple(info.digest))
    return {
        "version": info.version,
        "size": info.size,
        "gaps": gaps,
        "filename": info.filename,
        "mediaType": info.media_type,
        "digest": digest,
    }


def _load(path: Path, there: int) -> tuple[ObjectInfo, list[Gap]] | None:
    """Return what was noted of a file with ``there`` bytes, None if that cannot be relied on."""
    try:
        state = own_json(read_own(path))
        gaps = _gaps(state["gaps"], state["size"])
        info = ObjectInfo(
            size=state["size"],
            version=_text(state["version"]),
            has_ranges=True,
            filename=_text(state["filename"]),
            media_type=_text(state["mediaType"]),
            digest=Digest(*state["digest"]) if state["digest"] else None,
        )
        last = max((g.start for g in gaps if g.end == info.size), default=info.size or 0)
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return (info, gaps) if there >= last else None


def _text(noted: Any) -> str | None:
    if noted is not None and not isinstance(noted, str):
        raise TypeError(noted)
    return noted


def _gaps(noted: Any, size: Any) -> list[Gap]:
    """Read gaps, which lie inside of the object and nowhere over one another.

    Raises:
        ValueError, TypeError: They do not: somebody has edited what was noted.
    """
    gaps = [Gap(start, end) for start, end in noted]
    numbers = [size, *(number for gap in gaps for number in (gap.start, gap.end))]
    if {type(number) for number in numbers} - {int, type(None)}:
        raise TypeError(noted)
    if size is None:
        if len(gaps) != 1 or gaps[0].start < 0 or gaps[0].end is not None:
            raise ValueError(noted)
        return gaps
    reached = 0
    for start, end in sorted((gap.start, gap.end or 0) for gap in gaps):
        if not reached <= start < end <= size:
            raise ValueError(noted)
        reached = end
    return gaps


if sys.platform == "win32":
    _position = threading.Lock()

    def _write_at(descriptor: int, data: memoryview, offset: int) -> None:
        with _position:
            os.lseek(descriptor, offset, os.SEEK_SET)
            while data:
                data = data[os.write(descriptor, data) :]

    def _sync_folder(folder: Path) -> None:
        """Windows has no such thing."""

else:

    def _write_at(descriptor: int, data: memoryview, offset: int) -> None:
        while data:
            count = os.pwrite(descriptor, data, offset)
            data, offset = data[count:], offset + count

    def _sync_folder(folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sync(descriptor: int) -> None:
    getattr(os, "fdatasync", os.fsync)(descriptor)
