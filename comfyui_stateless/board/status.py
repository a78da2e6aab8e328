"""How the server is: one object that says it all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from .. import __version__
from ..background import Background
from ..cache import Held
from ..jobs import JobState
from ..journal import GivenUp, Stats
from ..metrics import Source
from ..naming import redacted
from ..pipeline import Services

MAX_FAILED = 50
"""Messages out of tries that are listed, those that failed last."""


class ServerStatus:
    """Puts the server's state together. Disks are asked by ``refresh`` alone."""

    def __init__(self, services: Services, background: Background) -> None:
        self._services = services
        self._background = background
        self._cache = Source("cache", services.cache.held, _said)
        self._journal = Source("journal", self._recorded, _said)
        self._held: Held | None = None
        self._stats: Stats | None = None
        self._failed: list[GivenUp] = []

    async def refresh(self) -> None:
        """Ask the cache's folder and the journal; what does not answer stays as it was."""
        held, recorded = await asyncio.gather(self._cache.read(), self._journal.read())
        self._held = held or self._held
        if recorded is not None:
            self._stats, self._failed = recorded

    def now(self) -> dict[str, Any]:
        """Return the state of this moment, disks as they were when they were asked last."""
        services = self._services
        verdict = services.verdict()
        return {
            "version": __version__,
            "comfyui_version": services.engine.version,
            "phase": services.readiness.phase.value,
            "ready": verdict.ok,
            "reason": verdict.reason,
            "queue": self._queue(),
            "cache": self._cached(),
            "downloads": [
                {
                    "url": each.url,
                    "folder": each.folder,
                    "bytes": each.bytes,
                    "total": each.total,
                    "rate": round(each.rate),
                }
                for each in services.downloads.under_way()
            ],
            "journal": {"open": self._background.is_open, "damaged": self._background.damaged},
            "webhooks": self._webhooks(),
            "publish": services.settings.allow_publish,
        }

    async def close(self) -> None:
        """Ask no more."""
        await self._cache.close()
        await self._journal.close()

    async def _recorded(self) -> tuple[Stats, list[GivenUp]] | None:
        if not self._background.is_open:
            return None
        return await self._background.stats(), await self._background.given_up()

    def _queue(self) -> Mapping[str, Any]:
        jobs = self._services.jobs
        running = sum(job.state is JobState.RUNNING for job in jobs.live())
        limit = self._services.settings.max_queue_depth
        return {"depth": jobs.depth(), "running": running, "limit": limit or None}

    def _cached(self) -> Mapping[str, Any]:
        held, limit = self._held, self._services.settings.cache_bytes
        return {
            "files": None if held is None else held.files,
            "bytes": None if held is None else held.bytes,
            "limit_bytes": limit or None,
        }

    def _webhooks(self) -> Mapping[str, Any]:
        stats = self._stats
        return {
            "due": None if stats is None else stats.due,
            "oldest_due_s": None if stats is None else round(stats.oldest_due_s),
            "failed": None if stats is None else stats.given_up,
            "failures": [_failure(each) for each in self._failed[-MAX_FAILED:]],
        }


def _failure(message: GivenUp) -> dict[str, Any]:
    return {
        "message_id": message.message_id,
        "run": message.run_id,
        "url": redacted(message.url),
        "attempts": message.attempts,
        "error": message.error,
        "at": round(message.at * 1000),
    }


def _said(name: str) -> None:
    """The log has said that a source failed."""
