"""Large contents as files that are named by their SHA-256, each written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .failures import reading
from .values import Source

INLINE_BYTES = 16 * 1024
"""Contents up to this size are rows: a file costs two more writes to the disk."""

CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stored:
    """A content that is safe already: ``data`` for a row, or the ``digest`` of a file.

    With neither, only its size is known.
    """

    size: int
    data: bytes | None = field(default=None, repr=False)
    digest: str | None = None

    @property
    def is_kept(self) -> bool:
        """Whether the bytes are there."""
        return self.data is not None or self.digest is not None


class Files:
    """A folder of contents. Which of them are needed is for the database to say.

    A content is written before the transaction that refers to it. Until that has ended it is
    pinned, so that no clean-up takes it away; all methods may be called from any thread.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._pins: Counter[str] = Counter()
        self._suspects: set[str] = set()

    def path(self, digest: str) -> Path:
        return self.folder / digest

    @contextmanager
    def staged(self, sources: Mapping[str, Source]) -> Iterator[dict[str, Stored]]:
        """Write ``sources`` out and keep them for the length of the block.

        If the block fails, what nothing refers to is a suspect for the next clean-up.

        Raises:
            OSError: The disk is full, say.
            FolderFailed: A source cannot be read.
        """
        stored: dict[str, Stored] = {}
        try:
            for name, source in sources.items():
                stored[name] = self._store(source)
            yield stored
        except BaseException:
            self._unpin(stored.values(), suspect=True)
            raise
        self._unpin(stored.values(), suspect=False)

    def take_suspects(self) -> set[str]:
        """Return, once, the digests of files that a failed transaction may have left."""
        with self._lock:
            suspects, self._suspects = self._suspects, set()
        return suspects

    def remove(self, digest: str) -> bool:
        """Delete a content that nothing refers to; say no, and leave it, while it is pinned."""
        with self._lock:
            is_free = not self._pins[digest]
            if is_free:
                self.path(digest).unlink(missing_ok=True)
        return is_free

    def sweep(self, is_needed: Callable[[str], bool]) -> None:
        """Delete every file that is not needed; only while nobody stages."""
        for path in list(self.folder.iterdir()):
            if not is_needed(path.name):
                path.unlink(missing_ok=True)

    def adopt(self, other: Files) -> None:
        """Take over, beside ``other``, all contents that it has."""
        for path in other.folder.iterdir():
            if not self.path(path.name).exists() and path.suffix != ".part":
                self._unpin([self._write(_chunks(path))], suspect=False)

    def _store(self, source: Source) -> Stored:
        with reading():
            if isinstance(source, Path) and source.stat().st_size <= INLINE_BYTES:
                source = source.read_bytes()
        if isinstance(source, bytes) and len(source) <= INLINE_BYTES:
            return Stored(len(source), data=source)
        return self._write(_read(source))

    def _write(self, chunks: Iterable[bytes | memoryview]) -> Stored:
        temporary = self.folder / f"{uuid.uuid4().hex}.part"
        try:
            size, digest = _write_file(temporary, chunks)
            with self._lock:
                temporary.replace(self.path(digest))
                self._pins[digest] += 1
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(self.folder)
        return Stored(size, digest=digest)

    def _unpin(self, stored: Iterable[Stored], *, suspect: bool) -> None:
        digests = [content.digest for content in stored if content.digest is not None]
        with self._lock:
            self._pins.subtract(digests)
            self._pins = +self._pins
            if suspect:
                self._suspects.update(digests)


def private(path: str, flags: int) -> int:
    """Open as ``open``'s opener does, for nobody but the owner to read."""
    return os.open(path, flags, 0o600)


def sync_folder(folder: Path) -> None:
    """See that the names in a folder are on the disk; Windows does so unasked."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_file(path: Path, chunks: Iterable[bytes | memoryview]) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    with open(path, "xb", opener=private) as file:
        for chunk in chunks:
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    return size, digest.hexdigest()


def _read(source: Source) -> Iterator[bytes | memoryview]:
    with reading():
        yield from _chunks(source)


def _chunks(source: Source) -> Iterator[bytes | memoryview]:
    if isinstance(source, bytes):
        yield source
    elif isinstance(source, Path):
        with source.open("rb", buffering=0) as file:
            buffer = memoryview(bytearray(CHUNK_BYTES))
            while count := file.readinto(buffer):
                yield buffer[:count]
    else:
        yield from source
