"""Answers scrapes: what was counted, and what has to be asked for at that moment."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from .. import __version__
from ..background import Background
from ..jobs import JobState
from ..journal import Stats
from ..pipeline import Services
from ..storage.vendors import needed
from .lag import LoopLag
from .numbers import Tally
from .sources import Source
from .tallies import Tallies

if TYPE_CHECKING:
    from .page import Page
    from .snapshot import Snapshot

LIVE = [state.value for state in JobState if not state.is_terminal]

SOURCES = ("cache", "journal", "memory")


class Metrics:
    """The metrics of this process. ``start`` it on the loop, and ``close`` it there.

    Attributes:
        tallies: As given.
    """

    def __init__(self, services: Services, background: Background, tallies: Tallies) -> None:
        self.tallies = tallies
        self._services = services
        self._background = background
        self._lag = LoopLag(tallies.lag.add)
        self._failures = Tally([(name,) for name in SOURCES])
        self._cache = Source("cache", services.cache.held, self._failures.add)
        self._journal = Source("journal", self._stats, self._failures.add)
        self._memory = Source("memory", services.engine.memory, self._failures.add)

    def start(self) -> None:
        """Begin to measure the loop."""
        self._lag.start()

    async def close(self) -> None:
        """Measure and ask no more."""
        self._lag.stop()
        for source in (self._cache, self._journal, self._memory):
            await source.close()

    async def page(self, accept: str, accept_encoding: str) -> Page:
        """Return what a scrape gets; the loop goes on meanwhile.

        Args:
            accept: The header of that name.
            accept_encoding: The header of that name.

        Raises:
            MissingDependency: Prometheus's library is not there.
        """
        now = await self._snapshot()
        return await asyncio.to_thread(_page, now, accept, accept_encoding)

    async def _stats(self) -> Stats | None:
        return await self._background.stats() if self._background.is_open else None

    async def _snapshot(self) -> Snapshot:
        from .snapshot import Snapshot  # of no use to ComfyUI's start

        held, journal, memory = await asyncio.gather(
            self._cache.read(), self._journal.read(), self._memory.read()
        )
        services, tallies = self._services, self.tallies
        live = Counter(job.state.value for job in services.jobs.live())
        return Snapshot(
            version=__version__,
            comfyui_version=services.engine.version,
            bounds=tallies.stages.bounds,
            lag_bounds=tallies.lag.bounds,
            jobs=tallies.jobs.read(),
            job_failures=tallies.failures.read(),
            stages=tallies.stages.read(),
            node_runs=tallies.node_runs.read(),
            node_seconds=tallies.node_seconds.read(),
            requests=tallies.requests.read(),
            lag=tallies.lag.read(),
            live={state: live[state] for state in LIVE},
            queue_depth=services.jobs.depth(),
            ready=services.verdict().ok,
            healthy=services.readiness.health().ok,
            cache=services.cache.counts(),
            held=held,
            downloads=len(services.cache.downloads()),
            deliveries=self._background.deliveries(),
            journal=journal,
            memory=memory or (),
            failures=self._failures.read(),
        )


def _page(now: Snapshot, accept: str, accept_encoding: str) -> Page:
    with needed("prometheus-client", "/metrics"):
        from .page import page
    return page(now, accept, accept_encoding)
