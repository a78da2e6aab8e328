"""Puts a job's outputs into a storage while its later nodes still run.

All bookkeeping is done on the event loop, and so is all waiting: a thread is held only while a
backend writes.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from .engine import OutputFile
from .errors import (
    DeliveryFailed,
    StatelessError,
    StorageError,
    Superseded,
    TransferFailed,
    Unavailable,
    UnsupportedURL,
)
from .naming import redacted
from .storage.azure import AzureTarget
from .storage.backends import Backends, Target
from .storage.base import Cancel, Cancelled, Put, PutsTogether, Source
from .storage.http import HttpTarget
from .storage.policy import Policy, parse
from .storage.s3 import SCHEME as S3_SCHEME

log = logging.getLogger("comfyui_stateless.uploads")

DELAYS_S = (0.5, 2.0)
"""Seconds before the second and the third try."""

MAX_RETRY_AFTER_S = 30.0
"""Seconds after which an upload is tried again even where the storage asks for more."""


class Uploaded(NamedTuple):
    """An output that has arrived.

    Attributes:
        url: Where, as replies name it.
        size: Bytes.
        seconds: What writing it took; for a commit, all of it.
        path: The file that it came from, None for what was in memory.
    """

    url: str
    size: int
    seconds: float
    path: Path | None


class Uploads:
    """The uploads of this process; those to one URL are one after the other, and the last wins.

    Args:
        threads: Uploads at once. One job has half of them at the most.
        retry_delays: Seconds before each further try of an upload that broke.
        policy: Where ``check`` lets HTTP uploads go; None leaves it to the uploads themselves.
        on_uploaded: Told, on the loop, of each output that has arrived.
    """

    def __init__(
        self,
        backends: Backends,
        *,
        threads: int = 8,
        retry_delays: Sequence[float] = DELAYS_S,
        policy: Policy | None = None,
        on_uploaded: Callable[[Uploaded], None] | None = None,
    ) -> None:
        self._backends = backends
        self._policy = policy
        self._writers = _Writers(threads, retry_delays)
        self._on_uploaded = on_uploaded

    def job(self, target: Target | AzureTarget | None) -> JobUploads:
        """Return the uploads of one job; with no target they do nothing."""
        return JobUploads(target, self._backends, self._writers, self._on_uploaded)

    async def check(self, target: Target | AzureTarget) -> None:
        """See whether outputs could go to ``target``, as far as that shows without a request.

        Raises:
            UnsupportedURL: There is no such storage, or no account for it.
            HostRefused: The policy does not let us connect there.
        """
        url = self._backends.url_for(target, "name")
        backend = self._backends.for_url(url)
        if self._policy is None or not isinstance(target, HttpTarget) or backend.name != "http":
            return
        with suppress(TransferFailed):  # a name that nobody knows now may be known later
            await asyncio.to_thread(self._policy.addresses, parse(url))

    def close(self) -> None:
        """Stop what still runs, and end the threads."""
        self._writers.close()


class JobUploads:
    """The uploads of one job; a context manager that ends those that still run when it is left.

    A ``StatelessError`` that leaves it lists in ``details.uploaded`` what has arrived. All
    methods are for the event loop's thread.
    """

    def __init__(
        self,
        target: Target | AzureTarget | None,
        backends: Backends,
        writers: _Writers,
        on_uploaded: Callable[[Uploaded], None] | None,
    ) -> None:
        self._target = target
        self._backends = backends
        self._writers = writers
        self._on_uploaded = on_uploaded
        self._slots = asyncio.Semaphore(writers.at_once_per_job)
        self._urls: dict[str, str] = {}
        self._uploaded: set[str] = set()
        self._together: list[Put] = []
        self._live: set[_Write] = set()
        self._failure: BaseException | None = None
        self._is_closed = False

    async def __aenter__(self) -> JobUploads:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_closed = True
        self._stop()
        await _wait_out(self._running, self._stop)
        if isinstance(error, StatelessError) and self._target is not None:
            error.details["uploaded"] = list(self.uploaded)

    @property
    def uploaded(self) -> tuple[str, ...]:
        """The URLs of what has arrived, as ``finish`` gives them."""
        return tuple(shown(url) for url in self._urls.values() if url in self._uploaded)

    def begin(self, output: OutputFile) -> None:
        """Begin to upload an output, unless that was done before.

        What goes into one commit only comes together here. What fails is told by ``finish``.
        """
        is_over = self._is_closed or self._failure is not None
        if self._target is None or is_over or output.filename in self._urls:
            return
        try:
            url = self._backends.url_for(self._target, output.filename)
            backend = self._backends.for_url(url)
        except StorageError as error:
            self._fail(_failure(output.filename, error))
            return
        self._urls[output.filename] = url
        put = Put(url, Source(output.body, output.size, output.media_type))
        if isinstance(backend, PutsTogether):
            self._together.append(put)
        else:
            self._start((put,), partial(backend.put, url, put.source, None))

    async def finish(self, outputs: Sequence[OutputFile]) -> tuple[str, ...]:
        """Upload those of ``outputs`` that are not on their way yet; wait until all have arrived.

        Returns:
            Their URLs, in the same order, without user, password and query.

        Raises:
            DeliveryFailed: One could not be uploaded; the others were given up then.
            Superseded: A later job uploads to one of the URLs.
        """
        for output in outputs:
            self.begin(output)
        self._commit()
        await _wait_out(self._running, self._stop)
        if self._failure is not None:
            raise self._failure
        return tuple(shown(self._urls[o.filename]) for o in outputs if o.filename in self._urls)

    def _commit(self) -> None:
        puts, self._together = tuple(self._together), []
        if puts:
            backend = self._backends.for_url(puts[0].url)
            assert isinstance(backend, PutsTogether)
            self._start(puts, partial(backend.put_together, puts, None))

    def _start(self, puts: tuple[Put, ...], work: Callable[[Cancel], None]) -> None:
        write = _Write(puts, work)
        self._live.add(write)
        self._writers.start(write, self._slots).add_done_callback(partial(self._ended, write))

    def _ended(self, write: _Write, task: asyncio.Task[float]) -> None:
        self._live.discard(write)
        if write.lost_url is not None:
            place = shown(write.lost_url)
            self._fail(Superseded(f"The upload to {place} was ended: a later one goes there."))
        elif not task.cancelled():
            if error := task.exception():
                self._fail(error)
            else:
                self._arrived(write.puts, task.result())

    def _arrived(self, puts: Iterable[Put], seconds: float) -> None:
        for put in puts:
            self._uploaded.add(put.url)
            if self._on_uploaded is not None:
                body, size = put.source.body, put.source.size
                path = body if isinstance(body, Path) else None
                self._on_uploaded(Uploaded(shown(put.url), size, seconds, path))

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
            self._stop()

    def _stop(self) -> None:
        for write in self._live:
            write.task.cancel()

    def _running(self) -> list[asyncio.Task[float]]:
        return [write.task for write in self._live]


class _Write:
    """One write on its way: of an output, or of all of a job's in one commit.

    Attributes:
        places: The URLs that nobody else may write to meanwhile.
        task: Does it; its result is how many seconds it took.
        lost_url: The one of its URLs that a later write took over.
    """

    task: asyncio.Task[float]

    def __init__(self, puts: tuple[Put, ...], work: Callable[[Cancel], None]) -> None:
        self.puts = puts
        self.places = {_place(put.url): put.url for put in puts}
        self.cancel = Cancel()
        self.lost_url: str | None = None
        self._work = work

    def on_thread(self) -> float:
        """Write once."""
        began = time.perf_counter()
        self._work(self.cancel)
        return time.perf_counter() - began

    def lose(self, place: str) -> None:
        """Stop for a later write to ``place``."""
        if self.task.cancel():
            self.lost_url = self.places[place]


class _Writers:
    """Does the writes of all jobs.

    Attributes:
        at_once_per_job: Threads that one job may hold.
    """

    def __init__(self, threads: int, retry_delays: Sequence[float]) -> None:
        self.at_once_per_job = max(1, threads // 2)
        self._retry_delays = tuple(retry_delays)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="stateless-upload")
        self._live: dict[str, set[_Write]] = {}

    def start(self, write: _Write, slots: asyncio.Semaphore) -> asyncio.Task[float]:
        """Begin a write, and end those to the same places that have begun before."""
        before = set()
        for place in write.places:
            at_place = self._live.setdefault(place, set())
            for earlier in at_place:
                earlier.lose(place)
                before.add(earlier.task)
            at_place.add(write)
        write.task = asyncio.ensure_future(self._run(write, before, slots))
        write.task.add_done_callback(lambda _: self._forget(write))
        return write.task

    def close(self) -> None:
        for writes in self._live.values():
            for write in writes:
                write.cancel.cancel()
        self._pool.shutdown()

    def _forget(self, write: _Write) -> None:
        for place in write.places:
            self._live[place].discard(write)
            if not self._live[place]:
                del self._live[place]

    async def _run(
        self, write: _Write, before: set[asyncio.Task[float]], slots: asyncio.Semaphore
    ) -> float:
        if before:  # or what they have sent could arrive last
            await asyncio.wait(before)
        with _failures_told(write.puts):
            for delay in self._retry_delays:
                try:
                    return await self._try(write, slots)
                except TransferFailed as error:
                    pause = _pause(delay, error)
                    log.warning("Uploading again in %.1f s: %s", pause, ascii(error.message))
                await asyncio.sleep(pause)
            return await self._try(write, slots)

    async def _try(self, write: _Write, slots: asyncio.Semaphore) -> float:
        """Write once, on a thread; when cancelled, return only when the thread has ended."""
        async with slots:
            write.cancel.check()
            future = self._pool.submit(write.on_thread)
            ended = asyncio.wrap_future(future)
            # Nobody else looks at how one ended that was cancelled.
            ended.add_done_callback(lambda _: ended.cancelled() or ended.exception())

            def stop() -> None:
                write.cancel.cancel()
                future.cancel()

            await _wait_out(lambda: [] if ended.done() else [ended], stop)
            return ended.result()


async def _wait_out(
    running: Callable[[], Sequence[asyncio.Future[float]]], stop: Callable[[], None]
) -> None:
    """Wait until nothing runs; to be cancelled is to stop it, and to wait for it all the same."""
    try:
        while futures := running():
            await asyncio.wait(futures)
    except asyncio.CancelledError:
        stop()
        await _wait_out(running, stop)
        raise


def shown(url: str) -> str:
    """Return the URL of an upload as replies have it: without user, password and query."""
    # A key of S3 may have any character, and its URLs never hold anything secret.
    return url if url.startswith(S3_SCHEME) else redacted(url).removesuffix("?…")


def _place(url: str) -> str:
    """Return what is the same for two URLs that lead to one object."""
    try:
        return parse(url).url
    except UnsupportedURL:
        return url


def _pause(delay: float, error: TransferFailed) -> float:
    asked = min(error.retry_after_s or 0.0, MAX_RETRY_AFTER_S)
    return max(asked, delay * random.uniform(0.8, 1.2))  # noqa: S311 - spreads, hides nothing


@contextmanager
def _failures_told(puts: Sequence[Put]) -> Iterator[None]:
    """Raise what goes wrong with a write as an error of its job."""
    where = shown(puts[0].url)
    what = where if len(puts) == 1 else f"{len(puts)} outputs, among them {where},"
    try:
        yield
    except StorageError as error:
        raise _failure(what, error) from error
    except OSError as error:
        raise DeliveryFailed(
            f"{what} could not be uploaded: its file cannot be read ({error.strerror}).",
            details={"reason": "file_unreadable"},
        ) from error
    except Cancelled:
        raise Unavailable(f"{what} was not uploaded: the server stops.") from None


def _failure(what: str, error: StorageError) -> DeliveryFailed:
    return DeliveryFailed(
        f"{what} could not be uploaded: {error.message}", details={"reason": error.code}
    )
