"""All jobs, and the server's state, for those who ask once and those who watch.

Nothing is noted while jobs run: only while somebody watches they are looked at, ten times a
second, and what differs from what was told is told. So a job costs nothing, however many events it
has, and however many watch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Hashable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from ..background import Background
from ..jobs import Job, JobState
from ..pipeline import Services
from .described import described
from .feed import Feed, frame
from .positions import Positions
from .recent import Recent
from .status import ServerStatus

LOOK_S = 0.1
STATUS_S = 0.5
REFRESH_S = 5.0

SHARE = 20
"""A look that takes long is followed by a pause of so many times its length."""

LISTED = 500
"""Jobs that are listed at most."""


class Board:
    """Lists jobs and tells watchers what changes.

    Args:
        recent: Knows the jobs that have ended.
    """

    def __init__(self, services: Services, background: Background, recent: Recent) -> None:
        self._jobs = services.jobs
        self._recent = recent
        self._status = ServerStatus(services, background)
        self._feed = self._new_feed()
        self._watching: list[asyncio.Task[None]] = []
        self._told: dict[str, Hashable] = {}
        self._hold = Positions()
        self._positions: Mapping[str, int] = {}
        self._told_status: Mapping[str, Any] = {}
        self._status_at = float("-inf")

    def listing(self, limit: int = LISTED) -> list[dict[str, Any]]:
        """Return what is said of the jobs, newest first.

        Where there are more than ``limit``, those that run and those that run next stay.
        """
        positions = self._jobs.positions()
        chosen = list(self._chosen(limit, positions))
        # Of two of one millisecond the one that runs later is the newer.
        live = [each for each in reversed(chosen) if each[1] is not None]
        ended = [each for each in chosen if each[1] is None]
        said = [self._described(run, job, positions) for run, job in (*live, *ended)]
        return sorted(said, key=lambda job: job["created"], reverse=True)

    async def status(self) -> dict[str, Any]:
        """Return how the server is."""
        await self._status.refresh()
        return self._status.now()

    def thumbnail(self, run_id: str) -> bytes | None:
        """Return a small JPEG of what a job made, None if there is none."""
        return self._recent.thumbnail(run_id)

    def interrupt(self, run_id: str) -> tuple[str, bool]:
        """Stop a job, by its own id; return its caller's id where it is known, and whether it lived."""
        for job in self._jobs.live():
            if job.run_id == run_id:
                return job.id, self._jobs.interrupt_run(run_id)
        known = run_id in self._recent
        return (self._recent.described(run_id)["id"] if known else run_id), False

    async def follow(self, *, idle_s: float) -> AsyncGenerator[bytes | None, None]:
        """Yield a snapshot, then what changes, as server-sent events, for ever.

        None is yielded when nothing has changed for ``idle_s`` seconds.
        """
        self._recent.watchers += 1
        try:
            if not self._watching:
                self._begin()
            async for events in self._feed.follow(idle_s=idle_s):
                yield events
        finally:
            self._recent.watchers -= 1
            if not self._recent.watchers:
                self._end()

    async def close(self) -> None:
        """Watch and ask no more."""
        self._end()
        await self._status.close()
        self._recent.close()

    def _begin(self) -> None:
        self._feed = self._new_feed()
        self._told = {run: mark for run, _, mark in self._looked()}
        self._told_status = self._status.now()
        self._watching = [
            asyncio.create_task(self._keep_looking()),
            asyncio.create_task(self._keep_refreshing()),
        ]

    def _end(self) -> None:
        for task in self._watching:
            task.cancel()
        self._watching = []

    async def _keep_looking(self) -> None:
        while True:
            began = time.perf_counter()
            self._look()
            await asyncio.sleep(max(LOOK_S, SHARE * (time.perf_counter() - began)))

    async def _keep_refreshing(self) -> None:
        while True:
            await self._status.refresh()
            await asyncio.sleep(REFRESH_S)

    def _look(self) -> None:
        """Tell what differs from what was told."""
        found = {run: (job, mark) for run, job, mark in self._looked()}
        changed = [run for run, (_, mark) in found.items() if self._told.get(run) != mark]
        gone = [run for run in self._told if run not in found]
        for run in reversed(changed):
            self._feed.put(run, "job", self._described(run, found[run][0], self._positions))
        for run in gone:
            self._feed.put(run, "removed", {"run": run})
        self._told = {run: mark for run, (_, mark) in found.items()}
        if self._tell_status() or changed or gone:
            self._feed.wake()

    def _tell_status(self) -> bool:
        if time.monotonic() - self._status_at < STATUS_S:
            return False
        self._status_at = time.monotonic()
        now = self._status.now()
        if now == self._told_status:
            return False
        self._told_status = now
        self._feed.put("status", "status", now)
        return True

    def _looked(self) -> Iterator[tuple[str, Job | None, Hashable]]:
        """Yield the jobs that are listed, each with a mark that changes when it does."""
        positions = self._jobs.positions()
        self._positions = self._hold.told(positions)
        for run, job in self._chosen(LISTED, positions):
            yield run, job, self._mark(run, job)

    def _mark(self, run: str, job: Job | None) -> Hashable:
        if job is None:
            return self._recent.thumbnail(run) is not None
        return job.state, self._position(run, job, self._positions), job.overall, job.progress.node

    def _chosen(self, limit: int, positions: Mapping[str, int]) -> Iterator[tuple[str, Job | None]]:
        """Yield jobs that live, then those that have ended, which are known by their ids alone.

        Those that live come in the order in which they run.
        """
        live = [(job.run_id, job) for job in self._jobs.live() if not job.state.is_terminal]
        live.sort(key=lambda each: positions.get(each[0], -1))
        ended = ((run, None) for run in self._recent.runs())
        return islice(chain(live, ended), limit)

    def _described(self, run: str, job: Job | None, positions: Mapping[str, int]) -> dict[str, Any]:
        if job is None:
            return self._recent.described(run)
        return described(job, self._position(run, job, positions))

    def _position(self, run: str, job: Job, positions: Mapping[str, int]) -> int | None:
        return positions.get(run) if job.state is JobState.QUEUED else None

    def _new_feed(self) -> Feed:
        return Feed(lambda: frame("snapshot", self._snapshot()))

    def _snapshot(self) -> dict[str, Any]:
        return {"jobs": self.listing(), "status": self._status.now()}
