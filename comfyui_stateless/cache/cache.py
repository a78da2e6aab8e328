"""The cache: from a URL to a local file that is whole."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..errors import AccessDenied, StorageError, Unavailable
from ..naming import redacted
from ..storage.auth import Auth, Credential
from ..storage.base import Backend, Cancel, Cancelled, ObjectInfo
from ..texts import cut_short
from . import eviction
from .access import Access, access_for
from .bring import Bringing, Wanted
from .counts import Counts, Held
from .eviction import FileEvent
from .flights import Flight, Flights
from .lease import Inspection, Lease
from .locks import Lock, fetch_lock, try_lock
from .names import key_of, readable_name
from .part import MARGIN_BYTES, Part, require_space, telling_plainly
from .patience import DELAYS_S
from .progress import DownloadProgress
from .shelf import Cached, Shelf
from .slots import Slots
from .threads import Threads, run_to_end
from .transfer import Means, Origin

log = logging.getLogger("comfyui_stateless.cache")

POLL_S = (0.02, 0.25)
"""The shortest and the longest time between two looks whether another process is done."""


@dataclass(frozen=True, slots=True)
class _Request:
    """One caller's wish; those that are equal can share a flight."""

    url: str = field(repr=False)
    key: str
    access: Access
    wanted: Wanted


class _Arrival(NamedTuple):
    cached: Cached
    was_cached: bool


class _Live(NamedTuple):
    url: str
    folder: str | None
    bringing: Bringing


class Cache:
    """Files by URL, fetched once and kept in one folder, which several processes may share.

    Args:
        folder: Where the files are; nothing else should be.
        backend_for: Gives the backend that serves a URL; raises ``UnsupportedURL``.
        limit_bytes: What the files may take before those used longest ago go, 0 for no limit.
        transfers: Connections at once, over all downloads.
        retry_delays: Seconds before each further try of a download that brings nothing.
        on_downloaded: Told of each file that was downloaded.
        on_deleted: Told of each file that was deleted.

    Attributes:
        backend_for: As given.
    """

    def __init__(
        self,
        folder: Path,
        backend_for: Callable[[str], Backend],
        *,
        limit_bytes: int = 0,
        transfers: int = 16,
        retry_delays: Sequence[float] = DELAYS_S,
        on_downloaded: Callable[[FileEvent], None] | None = None,
        on_deleted: Callable[[FileEvent], None] | None = None,
    ) -> None:
        self.backend_for = backend_for
        self._shelf = Shelf(folder.absolute())
        self._limit_bytes = limit_bytes
        self._threads = Threads(transfers)
        self._slots = Slots(transfers)
        self._means = Means(
            self._slots, self._threads.transfers, self._threads.savers, retry_delays
        )
        self._on_downloaded = on_downloaded
        self._on_deleted = on_deleted
        self._flights: Flights[_Arrival] = Flights()
        self._live: dict[str, _Live] = {}
        self._counts = Counts()
        self._digests: dict[str, asyncio.Lock] = {}

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._shelf.folder

    @property
    def evicts(self) -> bool:
        """Whether files are ever deleted to make room."""
        return self._limit_bytes > 0

    async def start(self) -> None:
        """Make the folder, delete what dead processes left and cannot be resumed, keep the limit.

        Raises:
            OSError: The folder cannot be made or read.
        """
        await run_to_end(self._threads.files, self._prepare_folder)
        await self._evict()

    def _prepare_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        eviction.sweep(self.folder, partial(Part.is_resumable, self.folder))

    async def close(self) -> None:
        """Stop all downloads; what can be resumed stays."""
        await self._flights.close()
        await asyncio.to_thread(self._threads.close)

    def downloads(self) -> tuple[DownloadProgress, ...]:
        """Return what is being downloaded now, for whomever."""
        return tuple(_progress(live) for live in list(self._live.values()))

    def progress(self, url: str) -> DownloadProgress | None:
        """Return how far the download of a URL is, None if it is not under way here."""
        live = self._live.get(key_of(url))
        return None if live is None else _progress(live)

    def counts(self) -> Counts:
        """Return what was done since the process began."""
        under_way = sum(live.bringing.meter.received for live in self._live.values())
        return replace(self._counts, received_bytes=self._counts.received_bytes + under_way)

    async def held(self) -> Held:
        """Return how much is there now.

        Raises:
            OSError: The folder cannot be read.
        """
        return await run_to_end(self._threads.files, partial(eviction.held, self.folder))

    async def fetch(
        self,
        url: str,
        credentials: Sequence[Credential] = (),
        *,
        sha256: str | None = None,
        refuse_html: bool = False,
        media: bool = False,
        auth: Auth | None = None,
        folder: str | None = None,
    ) -> Lease:
        """Return the file of a URL, fetched unless it is there. Cancel the call to leave.

        Args:
            credentials: The request's, of which the first whose pattern fits is used.
            sha256: What the content has to hash to, in hex.
            refuse_html: Whether a web page is an error.
            media: Whether anything but an image, a video, a sound or the like is an error.
            auth: Outranks ``credentials``.
            folder: The model folder that it is for; shown with the progress.

        Raises:
            StorageError: It cannot be had, or is not what is wanted.
            Unavailable: The cache was closed before it came.
        """
        began = time.perf_counter()
        wanted = Wanted(sha256.lower() if sha256 else None, refuse_html, media)
        request = _Request(url, key_of(url), access_for(url, credentials, auth), wanted)
        self.backend_for(url)
        with telling_plainly():
            while True:
                cached = await self._hit(request)
                if cached is not None:
                    return self._lease(request, _Arrival(cached, was_cached=True), began)
                flight = self._flights.get(request.key)
                if flight is None or flight.terms == request:
                    return await self._board(flight, request, folder, began)
                await flight.ended()

    async def hold(self, path: Path) -> Callable[[], None] | None:
        """Keep the file that a link leads to until what is returned is called.

        None where it leads to no file of the cache.

        Raises:
            StorageError: The folder cannot be used.
        """
        holds = self._shelf.holds
        with telling_plainly():
            cached = await run_to_end(
                self._threads.files,
                partial(self._shelf.take_linked, path),
                undo=lambda taken: None if taken is None else holds.drop(taken.key),
            )
        return None if cached is None else partial(holds.drop, cached.key)

    async def inspect(
        self, url: str, credentials: Sequence[Credential] = (), auth: Auth | None = None
    ) -> Inspection:
        """Return what a ``fetch`` would find, without fetching.

        Raises:
            StorageError: It would fail.
        """
        request = _Request(url, key_of(url), access_for(url, credentials, auth), Wanted())
        self.backend_for(url)
        with telling_plainly():
            cached = await self._hit(request)
        if cached is None:
            self._threads.files.submit(self._shelf.forget, request.key)
            info = await self._head(request)
            return Inspection(False, info.size, info.media_type)
        self._shelf.holds.drop(cached.key)
        return Inspection(True, cached.size, cached.known.media_type)

    async def _board(
        self, flight: Flight[_Arrival] | None, request: _Request, folder: str | None, began: float
    ) -> Lease:
        """Join the flight, or begin it, and wait for what it brings."""
        flight = flight or self._flights.start(
            request.key,
            request,
            lambda cancel: self._bring(request, folder, cancel),
            lambda arrival: self._shelf.holds.drop(arrival.cached.key),
        )
        try:
            return await flight.wait(partial(self._held_lease, request, began))
        except Cancelled:
            raise Unavailable(f"The server ends before {redacted(request.url)} came.") from None

    async def _bring(self, request: _Request, folder: str | None, cancel: Cancel) -> _Arrival:
        """Fetch a file, alone among all processes; it is held once for whom it is returned to."""
        key, holds = request.key, self._shelf.holds
        await run_to_end(
            self._threads.files, partial(holds.take, key), undo=lambda _: holds.drop(key)
        )
        try:
            async with self._alone(key):
                arrival = await self._bring_alone(request, folder, cancel)
            if not arrival.was_cached:
                await self._evict()
        except BaseException:
            holds.drop(key)
            self._threads.files.submit(self._shelf.forget, key)
            raise
        return arrival

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        """Be the one, of all processes, that fetches a file."""
        delay, longest = POLL_S
        path = fetch_lock(self.folder, key)
        while (
            lock := await run_to_end(self._threads.files, partial(try_lock, path), undo=_release)
        ) is None:
            await asyncio.sleep(delay)
            delay = min(2 * delay, longest)
        try:
            yield
        finally:
            self._threads.files.submit(lock.remove)

    async def _bring_alone(self, request: _Request, folder: str | None, cancel: Cancel) -> _Arrival:
        cached = await self._hit(request)
        if cached is not None:
            self._shelf.holds.drop(cached.key)  # the flight has a hold of its own
            return _Arrival(cached, was_cached=True)
        origin = Origin(self.backend_for(request.url), request.url, request.access.auth)
        bringing = Bringing(
            origin, self.folder, request.key, self._means, request.wanted, self._room_maker()
        )
        publish = partial(self._shelf.publish, url=request.url, auth_required=request.access.is_own)
        await self._slots.acquire()
        self._live[request.key] = _Live(redacted(request.url), folder, bringing)
        try:
            cached = await run_to_end(
                self._threads.transfers, lambda: publish(bringing.run(cancel)), cancel=cancel
            )
        except StorageError:
            self._counts.failures += 1
            raise
        finally:
            del self._live[request.key]
            self._counts.received_bytes += bringing.meter.received
            self._slots.release()
        self._tell_downloaded(request, cached, bringing.meter.seconds)
        return _Arrival(cached, was_cached=False)

    async def _hit(self, request: _Request) -> Cached | None:
        """Return the file, held, if it is there, good, and for this caller; None to fetch it.

        Raises:
            AccessDenied: It is for callers with credentials that the origin accepts.
        """
        key, holds = request.key, self._shelf.holds
        cached = await run_to_end(
            self._threads.files,
            partial(self._shelf.take, key),
            undo=lambda taken: None if taken is None else holds.drop(key),
        )
        if cached is None:
            return None
        try:
            good = await self._good(cached, request)
        except BaseException:
            holds.drop(key)
            raise
        if good is None:
            holds.drop(key)
        return good

    async def _good(self, cached: Cached, request: _Request) -> Cached | None:
        if not (cached.is_vouched_for or cached.is_foreign):
            return None
        needs_check = cached.known.auth_required
        if needs_check and not request.access.is_own:
            raise AccessDenied(
                f"{redacted(request.url)} was fetched with credentials; the request has to bring "
                "its own."
            )
        if needs_check or cached.is_foreign:
            info = await self._head(request)
            if cached.is_foreign:
                if info.size != cached.size:
                    return None
                adopt = partial(
                    self._shelf.adopt, cached, request.url, auth_required=request.access.is_own
                )
                cached = await run_to_end(self._threads.files, adopt)
        return cached if await self._suits(cached, request.wanted) else None

    async def _suits(self, cached: Cached, wanted: Wanted) -> bool:
        if wanted.refuse_html and cached.known.is_html:
            return False
        return wanted.sha256 is None or wanted.sha256 == await self._digest(cached)

    async def _head(self, request: _Request) -> ObjectInfo:
        cancel = Cancel()
        head = self.backend_for(request.url).head
        return await run_to_end(
            self._threads.heads,
            partial(head, request.url, request.access.auth, cancel),
            cancel=cancel,
        )

    async def _digest(self, cached: Cached) -> str:
        if cached.is_vouched_for and cached.known.sha256 is not None:
            return cached.known.sha256
        lock = self._digests.setdefault(cached.key, asyncio.Lock())
        try:
            async with lock:
                with telling_plainly():
                    return await run_to_end(
                        self._threads.files, partial(self._shelf.digest, cached)
                    )
        finally:
            if not lock.locked():
                self._digests.pop(cached.key, None)

    async def _evict(self) -> None:
        if not self._limit_bytes:
            return
        try:
            deleted = await run_to_end(
                self._threads.files, partial(eviction.evict, self.folder, self._limit_bytes)
            )
        except OSError as error:
            log.warning("Cannot keep the cache within its limit: %s", error.strerror)
            return
        self._tell_deleted(deleted)

    def _room_maker(self) -> Callable[[int], None]:
        """Return what a download's thread calls before its first byte."""
        loop = asyncio.get_running_loop()

        def make_room(size: int) -> None:
            short = size + MARGIN_BYTES - shutil.disk_usage(self.folder).free
            if short > 0 and self._limit_bytes:
                deleted = eviction.make_room(self.folder, short)
                loop.call_soon_threadsafe(self._tell_deleted, deleted)
            require_space(self.folder, size)

        return make_room

    def _tell_downloaded(self, request: _Request, cached: Cached, seconds: float) -> None:
        url = redacted(request.url)
        self._counts.downloads += 1
        log.info(
            "Downloaded %s: %d bytes in %.2f s",
            ascii(cut_short(url)),
            cached.size,
            seconds,
        )
        if self._on_downloaded is not None:
            self._on_downloaded(FileEvent(url, cached.path, cached.size, seconds))

    def _tell_deleted(self, deleted: Iterable[FileEvent]) -> None:
        for event in deleted:
            self._counts.evictions += 1
            self._counts.evicted_bytes += event.size
            if self._on_deleted is not None:
                self._on_deleted(event)

    def _held_lease(self, request: _Request, began: float, arrival: _Arrival) -> Lease:
        self._shelf.holds.take(arrival.cached.key)  # at once: the flight holds it already
        return self._lease(request, arrival, began)

    def _lease(self, request: _Request, arrival: _Arrival, began: float) -> Lease:
        cached, known = arrival.cached, arrival.cached.known
        self._counts.hits += arrival.was_cached
        self._counts.misses += not arrival.was_cached
        return Lease(
            path=cached.path,
            url=redacted(request.url),
            name=readable_name(request.url, known.filename, cached.path.suffix),
            key=cached.key,
            size=cached.size,
            media_type=known.media_type,
            was_cached=arrival.was_cached,
            seconds=time.perf_counter() - began,
            _drop=partial(self._shelf.holds.drop, cached.key),
            _digest=partial(self._digest, cached),
            _add_link=partial(self._add_link, cached),
        )

    async def _add_link(self, cached: Cached, link: Path) -> None:
        add = partial(self._shelf.add_link, cached, link)
        with telling_plainly():
            await run_to_end(self._threads.files, add)


def _release(lock: Lock | None) -> None:
    if lock is not None:
        lock.release()


def _progress(live: _Live) -> DownloadProgress:
    done, total = live.bringing.progress
    meter = live.bringing.meter
    return DownloadProgress(live.url, live.folder, done, total, meter.rate(), meter.seconds)
