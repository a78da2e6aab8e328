"""How long each stage of a job took."""

from __future__ import annotations

import time


def unix_ms() -> int:
    """Return the current Unix time in whole milliseconds."""
    return time.time_ns() // 1_000_000


class Stage:
    """A stage of a job, as long as it lasts: no generator, as a job that waits is in one."""

    __slots__ = ("_began", "_name", "_watch")

    def __init__(self, watch: Stopwatch, name: str) -> None:
        self._watch = watch
        self._name = name

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._watch.add(self._name, time.perf_counter() - self._began)


class Stopwatch:
    """Adds up the seconds of named stages; each is read as whole milliseconds."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._stages: dict[str, float] = {}

    def stage(self, name: str) -> Stage:
        """Count the time inside the ``with`` block to ``name``."""
        return Stage(self, name)

    def add(self, name: str, seconds: float) -> None:
        """Count ``seconds`` to ``name``."""
        self._stages[name] = self._stages.get(name, 0.0) + seconds

    def seconds(self, name: str) -> float | None:
        """Return the seconds counted to ``name``, None if nothing was."""
        return self._stages.get(name)

    def ms(self, name: str) -> int:
        """Return the milliseconds counted to ``name``, 0 if none were."""
        return round(self._stages.get(name, 0.0) * 1000)

    def total_seconds(self) -> float:
        """Return the seconds since the stopwatch was made."""
        return time.perf_counter() - self._began

    def total_ms(self) -> int:
        """Return the milliseconds since the stopwatch was made."""
        return round(self.total_seconds() * 1000)
