"""What moves bytes: the ``Backend`` protocol and the values that it takes and gives.

Backends block and run on threads: a plain socket read into a buffer is twice as fast as the same
on an event loop, and every vendor's SDK blocks. They move bytes and translate errors. They choose
no path, keep no lock, retry nothing, log no secret and know no cache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

from .auth import Auth


class Cancelled(Exception):
    """Nobody wants a transfer any more."""


class Cancel:
    """Stops a transfer from another thread, also while it waits for its peer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._callbacks: list[Callable[[], object]] = []

    def cancel(self) -> None:
        """Stop the transfer; doing it again changes nothing."""
        with self._lock:
            self._event.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            with suppress(OSError):
                callback()

    @property
    def is_set(self) -> bool:
        """Whether the transfer is not wanted any more."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise ``Cancelled`` if the transfer is not wanted any more."""
        if self._event.is_set():
            raise Cancelled

    def wait(self, seconds: float) -> None:
        """Sleep, but not longer than the transfer is wanted.

        Raises:
            Cancelled: It is not.
        """
        self._event.wait(seconds)
        self.check()

    @contextmanager
    def calling(self, callback: Callable[[], object]) -> Iterator[None]:
        """Call ``callback``, such as a socket's shutdown, if it is cancelled inside the block.

        Raises:
            Cancelled: It was cancelled before.
        """
        with self._lock:
            self.check()
            self._callbacks.append(callback)
        try:
            yield
        finally:
            with self._lock, suppress(ValueError):
                self._callbacks.remove(callback)


@dataclass(frozen=True, slots=True)
class Digest:
    """What a whole object's bytes hash to, in lower-case hex; ``algorithm`` is hashlib's name.

    Attributes:
        is_assumed: Whether it may be something else: most ETags of S3 are an MD5, and some are not.
    """

    algorithm: str
    hex: str
    is_assumed: bool = False


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What an origin says of a whole object; None where it does not say.

    Attributes:
        size: Bytes.
        version: Identifies these very bytes: a strong ETag, else a Last-Modified date.
        has_ranges: Whether the origin gives parts.
        filename: A bare name, from Content-Disposition or the like.
        media_type: Without parameters, in lower case.
        digest: Of the content, where the origin vouches for one.
    """

    size: int | None = None
    version: str | None = None
    has_ranges: bool = False
    filename: str | None = None
    media_type: str | None = None
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A part of one version of an object: bytes from ``start`` up to, not including, ``end``."""

    start: int
    end: int | None = None
    version: str | None = None


class Download(Protocol):
    """An object's bytes as they come; a context manager that gives up the connection.

    Attributes:
        info: Of the whole object, also where only a part of it comes.
        offset: Where in the object the first byte stands: the span's start, or 0 where the origin
            gives no part of that version, and all of what it has now comes instead.
    """

    @property
    def info(self) -> ObjectInfo: ...

    @property
    def offset(self) -> int: ...

    def readinto(self, buffer: memoryview) -> int:
        """Fill the front of ``buffer``; return how many bytes that were, 0 at the end.

        Raises:
            TransferFailed: The connection broke, stalled, or ended before the length it announced.
            Cancelled: It was cancelled.
        """

    def __enter__(self) -> Download: ...

    def __exit__(self, *_: object) -> None: ...


class Source(NamedTuple):
    """What is uploaded: bytes, or the file that holds them."""

    body: bytes | Path
    size: int
    media_type: str


class Backend(Protocol):
    """One kind of storage. All methods may be called from many threads at once.

    ``auth`` is the request's own, None where it has none: then what the URL carries counts, then
    what the environment says. Errors are ``StorageError``s; none of their texts holds a secret.
    """

    name: ClassVar[str]

    def matches(self, url: str) -> bool:
        """Say whether this backend serves ``url``; the first that does is asked."""

    def head(self, url: str, auth: Auth | None, cancel: Cancel) -> ObjectInfo:
        """Ask the origin for an object without its bytes, as the caller with ``auth``.

        Raises:
            ObjectNotFound, AccessDenied, HostRefused, UnsupportedURL, TransferFailed: As it is.
        """

    def open(self, url: str, auth: Auth | None, span: Span | None, cancel: Cancel) -> Download:
        """Begin to read an object, or a part of it. One request where redirects allow.

        Raises:
            ObjectNotFound, AccessDenied, HostRefused, UnsupportedURL, TransferFailed: As it is.
        """

    def put(self, url: str, source: Source, auth: Auth | None, cancel: Cancel) -> None:
        """Write an object, streamed, in place of any that is there.

        Raises:
            AccessDenied, HostRefused, UnsupportedURL, TransferFailed: As it is.
            Cancelled: It was cancelled; what had arrived is taken back where the storage can.
        """

    def close(self) -> None:
        """Give up connections."""


@runtime_checkable
class FetchesWhole(Protocol):
    """What a backend can beside: bring a whole object to a path in its vendor's own fast way."""

    def fetch(
        self,
        url: str,
        auth: Auth | None,
        path: Path,
        progress: Callable[[int, int | None], None],
        cancel: Cancel,
    ) -> ObjectInfo | None:
        """Write an object to ``path``; None where this object is better read with ``open``.

        Args:
            path: A file that does not count yet: the caller checks and moves it.
            progress: Called with the bytes so far and the total.
        """


class Put(NamedTuple):
    """One of several uploads that belong together."""

    url: str
    source: Source


@runtime_checkable
class PutsTogether(Protocol):
    """What a backend can beside: write several objects in one step that is seen as one."""

    def put_together(self, puts: tuple[Put, ...], auth: Auth | None, cancel: Cancel) -> None:
        """Write all of ``puts``, or none."""
