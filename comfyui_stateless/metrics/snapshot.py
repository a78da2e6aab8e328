"""All that one scrape says, as it was at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..cache import Counts, Held
from ..engine import DeviceMemory
from ..journal import Stats
from .numbers import Labels, Spread

Counted = Mapping[Labels, float]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The numbers of a scrape; None, or nothing, stands for what could not be asked.

    Attributes:
        bounds: Of the ranges of ``stages``.
        lag_bounds: Of the ranges of ``lag``.
        live: Jobs by state.
        queue_depth: Prompts that wait or run.
        ready: Whether new work would be taken and run.
        healthy: Whether the server has come up.
        held: What the cache holds.
        downloads: That are under way.
        deliveries: Of messages, by outcome.
        journal: What is recorded.
        memory: Of the devices.
        failures: Of the sources of these numbers, by their names.
    """

    version: str
    comfyui_version: str
    bounds: tuple[float, ...]
    lag_bounds: tuple[float, ...]
    jobs: Counted
    job_failures: Counted
    stages: Mapping[Labels, Spread]
    node_runs: Counted
    node_seconds: Counted
    requests: Counted
    lag: Mapping[Labels, Spread]
    live: Mapping[str, int]
    queue_depth: int
    ready: bool
    healthy: bool
    cache: Counts
    held: Held | None
    downloads: int
    deliveries: Mapping[str, int]
    journal: Stats | None
    memory: tuple[DeviceMemory, ...]
    failures: Counted
