"""The text that a scrape gets. Only a scrape imports this."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import Collector

from .families import families
from .snapshot import Snapshot

COMPRESSION = 1
"""Half a megabyte of text in a few milliseconds, to a twentieth."""


@dataclass(frozen=True, slots=True)
class Page:
    """A body, and the headers that say what it is."""

    body: bytes
    headers: dict[str, str]


class _Snapshot(Collector):
    def __init__(self, now: Snapshot) -> None:
        self._now = now

    def collect(self) -> Iterable[Metric]:
        return families(self._now)


def page(now: Snapshot, accept: str, accept_encoding: str) -> Page:
    """Return the text of a snapshot, with the process's own numbers; blocks for a few ms.

    Args:
        accept: The header; OpenMetrics is for those who ask for it.
        accept_encoding: The header.
    """
    # Not the library's global registry: other packs may use that for themselves.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(now))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    encode, media_type = choose_encoder(accept)
    body = encode(registry)
    headers = {"Content-Type": media_type, "Vary": "Accept, Accept-Encoding"}
    if gzip_accepted(accept_encoding):
        return Page(gzip.compress(body, COMPRESSION), {**headers, "Content-Encoding": "gzip"})
    return Page(body, headers)
