"""The jobs that ended lately, as they are listed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..engine import PromptResult
from ..errors import StatelessError
from ..jobs import Job
from .described import described, thumbnail_of
from .thumbnails import Thumbnails

KEPT = 200
"""Ended jobs that are listed."""


class Recent:
    """Knows the last jobs that ended, until the process does.

    Args:
        pictures: Whether they get thumbnails.

    Attributes:
        watchers: How many watch the jobs now.
    """

    def __init__(self, *, pictures: bool = True) -> None:
        self.watchers = 0
        self._thumbnails = Thumbnails(lambda: self.watchers > 0)
        self._pictures = pictures
        self._ended: dict[str, dict[str, Any]] = {}

    def job_ended(self, job: Job, outcome: PromptResult | StatelessError) -> None:
        """Note a job, as ``Jobs`` tells it."""
        self._ended.pop(job.run_id, None)
        self._ended[job.run_id] = described(job, None)
        if self._pictures and isinstance(outcome, PromptResult):
            self._thumbnails.take(job.run_id, outcome.outputs)
        while len(self._ended) > KEPT:
            oldest = next(iter(self._ended))
            del self._ended[oldest]
            self._thumbnails.forget(oldest)

    def runs(self) -> Iterable[str]:
        """Return the jobs' own ids, the last that ended first."""
        return reversed(self._ended)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._ended

    def described(self, run_id: str) -> dict[str, Any]:
        """Return what is said of a job."""
        has_picture = self.thumbnail(run_id) is not None
        said = self._ended[run_id]
        return {**said, "thumbnail": thumbnail_of(run_id)} if has_picture else said

    def thumbnail(self, run_id: str) -> bytes | None:
        """Return a small JPEG of a job's first output, None if there is none."""
        return self._thumbnails.get(run_id)

    def close(self) -> None:
        """Make no more thumbnails."""
        self._thumbnails.close()
