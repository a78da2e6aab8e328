"""One download into a part file, over one connection or several, until it is whole.

A first connection starts at once; a small file costs one request and no probe. Where the origin
gives parts of a version and the file is large, further connections take over the back halves of
what is missing for as long as that makes it faster.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..errors import NoSpace, StorageError, TransferFailed
from ..storage.auth import Auth
from ..storage.base import Backend, Cancel, Cancelled, Download, ObjectInfo
from .governor import Governor
from .part import Gap, Part
from .patience import AFTER_PROGRESS_S, DELAYS_S, MAX_BREAKS, Patience
from .progress import Meter
from .slots import Slots

BUFFER_BYTES = 1024 * 1024

LARGE_BYTES = 64 * 1024 * 1024
"""Missing bytes from which more than one connection is considered."""

ROOM_BYTES = 4 * 1024 * 1024
"""Bytes after which it is seen again whether the disk has room: others write to it too."""

SAVE_S = 0.5
"""Seconds between two notes of what is there; a kill costs at most as much."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an object comes from, and as whom it is asked for."""

    backend: Backend
    url: str
    auth: Auth | None = field(repr=False)


class Means(NamedTuple):
    """What a transfer uses.

    Attributes:
        threads: Run further connections; there are as many as ``slots`` at least.
        savers: Write to the disk what is noted of downloads under way.
        delays: Seconds before each further try.
    """

    slots: Slots
    threads: Executor
    savers: Executor
    delays: Sequence[float] = DELAYS_S


class Transfer:
    """Fills a part from its origin.

    Args:
        make_room: Called with the bytes that are known to come before an object's first one is
            kept, and with 0 now and then while they come; what it raises ends the transfer.
    """

    def __init__(
        self,
        origin: Origin,
        part: Part,
        means: Means,
        meter: Meter,
        make_room: Callable[[int], None],
    ) -> None:
        self._origin = origin
        self._part = part
        self._means = means
        self._meter = meter
        self._make_room = make_room

    def run(self, cancel: Cancel) -> ObjectInfo:
        """Fetch what is missing, also over several tries; return what the origin says.

        Raises:
            StorageError: It cannot be had.
            Cancelled: It was cancelled.
        """
        patience = Patience(self._means.delays, self._part.done)
        try:
            while (error := self._try(cancel)) is not None:
                cancel.wait(patience.after(error, self._part.done))
        except BaseException:
            with suppress(OSError):
                self._part.save()
            raise
        assert self._part.info is not None
        return self._part.info

    def _try(self, cancel: Cancel) -> TransferFailed | None:
        """Fetch what is missing; return what broke, if another try may bring the rest."""
        try:
            self._fetch(cancel)
        except TransferFailed as error:
            return error
        return None

    def _fetch(self, cancel: Cancel) -> None:
        inner = Cancel()
        with cancel.calling(inner.cancel):
            if self._part.is_whole:
                self._confirm(inner)
            if not self._part.is_whole:
                _Crew(
                    self._origin, self._part, self._means, self._meter, self._make_room, inner
                ).run()
        cancel.check()

    def _confirm(self, cancel: Cancel) -> None:
        """See that the origin still has, and still gives us, the version that is there whole."""
        origin, there = self._origin, self._part.info
        info = origin.backend.head(origin.url, origin.auth, cancel)
        if there is None or info.version != there.version:
            self._part.discard_state()


class _Crew:
    """The connections of one try. The first one leads; only it may start the part anew."""

    def __init__(
        self,
        origin: Origin,
        part: Part,
        means: Means,
        meter: Meter,
        make_room: Callable[[int], None],
        cancel: Cancel,
    ) -> None:
        self._origin = origin
        self._part = part
        self._means = means
        self._meter = meter
        self._make_room = make_room
        self._room_at = meter.received
        self._cancel = cancel
        self._mutex = threading.Lock()
        self._governor = Governor()
        self._helpers: list[Future[None]] = []
        self._opening: set[int] = set()
        self._working = self._target = 1
        self._error: BaseException | None = None
        self._breaks = 0
        self._saved = time.monotonic()
        self._saving: Future[None] | None = None

    def run(self) -> None:
        """Fill the part; raise what kept that from being done."""
        try:
            self._lead()
            self._join(leads=True)
        except BaseException as error:  # noqa: BLE001 - raised below, or what outranks it
            self._fail(error)
        finally:
            self._wait()
        if self._error is not None and (_rank(self._error) > 0 or not self._part.is_whole):
            raise self._error
        if not self._part.is_whole:
            raise TransferFailed("The object changed, or its origin stopped giving parts of it.")

    def _fail(self, error: BaseException) -> None:
        """Note why a connection ended; what another one cannot mend ends the others too."""
        with self._mutex:
            if self._error is None or _rank(error) > _rank(self._error):
                self._error = error
        if _rank(error) > 0:
            self._cancel.cancel()

    def _wait(self) -> None:
        """Let the helpers end what they do: bytes must not come to a part that is closed."""
        while waiting := [h for h in self._started() if not h.done()]:
            wait(waiting)
        if self._saving is not None:
            wait([self._saving])

    def _started(self) -> list[Future[None]]:
        with self._mutex:
            return list(self._helpers)

    def _lead(self) -> None:
        part, origin = self._part, self._origin
        gap = part.take(split=False) if part.can_resume else None
        span = gap.span(part.info) if gap is not None and part.info is not None else None
        received = self._meter.received
        try:
            with origin.backend.open(origin.url, origin.auth, span, self._cancel) as download:
                gap = self._settle(download, gap)
                self._make_room(max(0, (download.info.size or 0) - part.done))
                self._copy(download, gap, leads=True)
        except TransferFailed as error:
            # Alone, it had better lead again: only who leads can begin anew.
            has_brought = self._meter.received > received and self._working > 1
            self._broke(error, has_brought=has_brought)
        finally:
            if gap is not None:
                part.give_back(gap)

    def _settle(self, download: Download, gap: Gap | None) -> Gap:
        """Return the gap that the leader's reply fills, in a part that may be started anew."""
        part, info = self._part, download.info
        if gap is not None and _continues(download, gap, part.info):
            return gap
        if download.offset != 0:
            part.discard_state()
            raise TransferFailed("The origin gave another part than the one asked for.")
        is_same = part.info is not None and part.info.version == info.version
        ignores_ranges = gap is not None and is_same
        return part.begin(replace(info, has_ranges=info.has_ranges and not ignores_ranges))

    def _fill_gaps(self, *, leads: bool) -> None:
        """Fill gap after gap until none is worth it, or the connection is needed elsewhere."""
        while self._part.can_resume and not self._must_yield(leads):
            gap = self._part.take(split=True)
            if gap is None:
                return
            start = gap.start
            try:
                if not self._fill(gap, leads=leads):
                    return
            except TransferFailed as error:
                self._broke(error, has_brought=gap.start > start)
            finally:
                self._part.give_back(gap)

    def _fill(self, gap: Gap, *, leads: bool) -> bool:
        """Fill a gap over a connection of its own; say no if the origin has no such part now."""
        origin, info = self._origin, self._part.info
        span = gap.span(info) if info is not None else None
        with origin.backend.open(origin.url, origin.auth, span, self._cancel) as download:
            if continues := _continues(download, gap, info):
                self._copy(download, gap, leads=leads)
        return continues

    def _broke(self, error: TransferFailed, *, has_brought: bool) -> None:
        """Go on after a break if the connection was good for something; else raise ``error``."""
        with self._mutex:
            self._breaks += 1
            is_hopeless = not has_brought or self._breaks > MAX_BREAKS
        if is_hopeless:
            raise error
        self._cancel.wait(AFTER_PROGRESS_S)

    def _must_yield(self, leads: bool) -> bool:
        return not leads and self._means.slots.is_contended

    def _copy(self, download: Download, gap: Gap, *, leads: bool) -> None:
        buffer = memoryview(bytearray(BUFFER_BYTES))
        while (room := self._part.room(gap, BUFFER_BYTES)) > 0 and not self._must_yield(leads):
            self._cancel.check()
            count = download.readinto(buffer[:room])
            if count == 0:
                self._end(gap)
                return
            self._part.fill(gap, buffer[:count])
            self._meter.add(count)
            self._keep_room()
            self._tick()

    def _keep_room(self) -> None:
        """See that the disk does not fill up on the way, whoever fills it."""
        received = self._meter.received
        if received - self._room_at >= ROOM_BYTES:
            self._room_at = received
            self._make_room(0)

    def _end(self, gap: Gap) -> None:
        if gap.end is not None:
            raise TransferFailed("The connection ended before all bytes had come.")
        self._part.end_here(gap)

    def _tick(self) -> None:
        """See, between two reads, whether to note what is there and whether to add connections."""
        now = time.monotonic()
        with self._mutex:
            self._opening.discard(threading.get_ident())
            if now - self._saved >= SAVE_S and (self._saving is None or self._saving.done()):
                self._saved = now
                self._saving = self._means.savers.submit(self._part.save)
            self._target += self._growth()
            while self._working < self._target and self._means.slots.try_acquire():
                self._working += 1
                self._helpers.append(self._means.threads.submit(self._help))

    def _growth(self) -> int:
        info, part = self._part.info, self._part
        if info is None or info.size is None or not part.can_resume or self._error is not None:
            return 0
        if self._working == 1 and info.size - part.done < LARGE_BYTES:
            return 0
        is_opening = bool(self._opening) or self._working < self._target
        return self._governor.wanted(self._meter.received, self._working, is_opening=is_opening)

    def _help(self) -> None:
        """Be one more connection, on a thread and with a slot of its own."""
        me = threading.get_ident()
        with self._mutex:
            self._opening.add(me)
        may_return = False
        try:
            may_return = self._join(leads=False)
        finally:
            with self._mutex:
                self._opening.discard(me)
                self._working -= 1
                if not may_return:
                    self._target = max(1, self._working)
            self._means.slots.release()

    def _join(self, *, leads: bool) -> bool:
        """Fill what is missing; say whether the connection, once ended, had better be replaced."""
        try:
            self._fill_gaps(leads=leads)
        except TransferFailed as error:
            self._fail(error)
            return threading.get_ident() not in self._opening
        except (NoSpace, OSError) as error:
            self._fail(error)
        except (StorageError, Cancelled):
            pass  # no further connection is wanted; whether none is, the next one to lead finds out
        return self._must_yield(leads)


def _rank(error: BaseException) -> int:
    """Return how much an error says: to try again, to stop, or why all had to stop."""
    if isinstance(error, TransferFailed):
        return 0
    return 1 if isinstance(error, Cancelled) else 2


def _continues(download: Download, gap: Gap, info: ObjectInfo | None) -> bool:
    """Say whether a reply brings a gap's bytes, of the version that the others are of."""
    now = download.info
    return (
        info is not None
        and download.offset == gap.start
        and now.version == info.version
        and (now.size is None or now.size == info.size)
    )
