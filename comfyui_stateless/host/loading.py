"""The threads that load pictures ahead, and the bound on what waits to be taken."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, NamedTuple

import folder_paths
import torch
from PIL import Image

from .decode import decoded, frames, is_known, is_plain

LIMIT_BYTES = 256 * 1024 * 1024
"""Bytes of loaded pictures that wait for their runs, of all runs together."""

BYTES_PER_PIXEL = 16
"""What a loader gives at most: three floats of the picture and one of the mask."""

MAX_CACHED = 1024
"""Pictures that are remembered to be in ComfyUI's cache."""

THREAD = "stateless-loader"

Key = tuple[str, ...]
"""The name of a loader, and its inputs; the first names the file."""


class Loader(NamedTuple):
    """A node class of ComfyUI's, with the functions that it had before they were wrapped.

    Attributes:
        function: What the node does.
        is_changed: Gives the digest of the file, behind ``IS_CHANGED``.
        inputs: Names of the inputs of both.
    """

    cls: Any
    function: Callable[..., Any]
    is_changed: Callable[..., Any]
    inputs: tuple[str, ...]


@dataclass(eq=False, slots=True)
class Load:
    """One call of a loader, for one run.

    Attributes:
        digest: What ``IS_CHANGED`` gives.
        result: What the function gives; None where the node has to call it.
        version: Tells whether the file is still what was read.
        room: Bytes that its result may take.
        state: Whether it is looked forward to, waited for by the node, or of no use any more.
    """

    loader: Loader
    key: Key
    digest: Future[Any] = field(default_factory=Future)
    result: Future[Any] = field(default_factory=Future)
    version: tuple[int, ...] = ()
    room: int = 0
    state: Literal["wanted", "awaited", "dropped"] = "wanted"

    @property
    def path(self) -> str:
        return str(folder_paths.get_annotated_filepath(self.key[1]))

    @property
    def known_digest(self) -> Any:
        """The digest, None as long as it is not known."""
        is_known = self.digest.done() and not self.digest.cancelled()
        return self.digest.result() if is_known else None

    def call(self, function: Callable[..., Any], of: Any) -> Any:
        """Call a function of the loader, as ComfyUI does."""
        return function(of, **dict(zip(self.loader.inputs, self.key[1:], strict=True)))


class Loading:
    """Loads pictures on threads of its own, in the order in which they are asked for.

    Nothing that goes wrong here is told: the node then does its work itself, and says so.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._count = threads or max(2, os.cpu_count() or 2)
        self._threads: list[threading.Thread] = []
        self._queue: SimpleQueue[Load] = SimpleQueue()
        self._room = threading.Condition()
        self._held = 0
        self._cached: dict[tuple[Key, Any], None] = {}

    @property
    def held(self) -> int:
        """Bytes that loaded pictures may take now."""
        return self._held

    def begin(self, load: Load) -> None:
        """Have a picture loaded; on the loop's thread."""
        if not self._threads:
            self._start()
        self._queue.put(load)

    def digest(self, load: Load) -> Any:
        """Return what ``IS_CHANGED`` gives, None where it has to be called. Waits if that has begun."""
        found = None if load.digest.cancel() else load.digest.result()
        return found if found is not None and _is_current(load) else None

    def take(self, load: Load) -> Any:
        """Return what a loader gives, None where it has to be called. Waits if that has begun."""
        if digest := load.known_digest:
            self._cached.pop((load.key, digest), None)
        with self._room:
            load.state = "awaited"
            self._room.notify_all()
        result = load.result
        found = None if result.cancel() else result.result()
        self.drop(load)
        return found if found is not None and _is_current(load) else None

    def drop(self, load: Load) -> None:
        """Give up a picture: it was taken, or nobody will take it."""
        load.digest.cancel()
        if not load.result.cancel() and load.result.done():
            load.result = _cancelled()  # or it would hold the picture
        with self._room:
            load.state = "dropped"
            self._set_room(load, 0)

    def note_cached(self, load: Load) -> None:
        """Note that ComfyUI has what a loader gives: it will not be asked for the next time."""
        self.drop(load)
        if digest := load.known_digest:
            self._cached[load.key, digest] = None
            while len(self._cached) > MAX_CACHED:
                del self._cached[next(iter(self._cached))]

    def _start(self) -> None:
        for number in range(self._count):
            # Daemons: one that waits for room must not hold up the end of the process.
            name = f"{THREAD}_{number}"
            self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
            self._threads[-1].start()

    def _work(self) -> None:
        while True:
            self._load(self._queue.get())

    def _load(self, load: Load) -> None:
        if not load.digest.set_running_or_notify_cancel():
            load.result.cancel()  # the node is at it
            return
        digest = _given(lambda: self._hashed(load))
        load.digest.set_result(digest)
        result = load.result
        if result.set_running_or_notify_cancel():
            is_due = digest is not None and (load.key, digest) not in self._cached
            result.set_result(_given(lambda: self._loaded(load)) if is_due else None)
            if load.state == "dropped":
                self.drop(load)

    def _hashed(self, load: Load) -> Any:
        load.version = _version(load)
        return load.call(load.loader.is_changed, load.loader.cls)

    def _loaded(self, load: Load) -> Any:
        with Image.open(load.path) as picture:
            size = BYTES_PER_PIXEL * picture.width * picture.height * frames(picture)
            if not self._has_room(load, size):
                return None
            is_ours = is_known(load.loader.function) and is_plain(picture)
            with torch.inference_mode():
                result = decoded(picture) if is_ours else None
                if result is None:
                    result = load.call(load.loader.function, load.loader.cls())
        if any(tensor.device.type != "cpu" for tensor in result):
            return None
        with self._room:
            self._set_room(load, sum(tensor.nbytes for tensor in result))
        return result

    def _has_room(self, load: Load, size: int) -> bool:
        """Wait until there is room for a result; in vain if the node comes first."""
        with self._room:
            if size <= LIMIT_BYTES:
                self._room.wait_for(lambda: load.state != "wanted" or self._fits(size))
            if load.state == "dropped" or not self._fits(size):
                return False
            self._set_room(load, size)
        return True

    def _fits(self, size: int) -> bool:
        return self._held + size <= LIMIT_BYTES

    def _set_room(self, load: Load, size: int) -> None:
        self._held += size - load.room
        load.room = size
        self._room.notify_all()


def _given(work: Callable[[], Any]) -> Any:
    """Return what ``work`` gives, None if it raises, be it whatever: a node may wait for it."""
    with suppress(BaseException):
        return work()
    return None


def _cancelled() -> Future[Any]:
    future: Future[Any] = Future()
    future.cancel()
    return future


def _is_current(load: Load) -> bool:
    return bool(load.version == _given(lambda: _version(load)))


def _version(load: Load) -> tuple[int, ...]:
    found = Path(load.path).stat()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
