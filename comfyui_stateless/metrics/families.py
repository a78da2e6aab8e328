"""From numbers to Prometheus's metric families. Only a scrape imports this, and the library."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from ..cache import Counts, Held
from ..engine import DeviceMemory
from ..journal import Stats
from .numbers import Labels, Spread
from .snapshot import Counted, Snapshot

PREFIX = "comfyui_stateless_"

NONE: Labels = ()

DELIVERIES = {
    "delivered": "delivered",
    "retried": "retried",
    "failed": "given_up",
    "thinned": "thinned",
    "dropped": "dropped",
}
"""What the sender of webhooks counts, by what it is called here."""


def families(now: Snapshot) -> Iterator[Metric]:
    """Yield the families of a snapshot."""
    yield _build(now)
    yield from _server(now)
    yield from _jobs(now)
    yield from _nodes(now)
    yield from _cache(now.cache, now.held, now.downloads)
    yield from _webhooks(now.deliveries, now.journal)
    yield from _memory(now.memory)
    yield _counter(
        "scrape_failures", "Times that a source of these numbers could not be asked.",
        ("source",), now.failures,
    )  # fmt: skip


def _build(now: Snapshot) -> Metric:
    info = InfoMetricFamily(f"{PREFIX}build", "The versions that run.")
    versions = {
        "version": now.version,
        "comfyui_version": now.comfyui_version,
        "python_version": platform.python_version(),
    }
    info.add_metric((), versions)
    return info


def _server(now: Snapshot) -> Iterator[Metric]:
    yield _gauge("ready", "1 when a prompt would be taken and run, as /ready says.", now.ready)
    yield _gauge("healthy", "1 once the server has come up, as /health says.", now.healthy)
    yield _histogram(
        "event_loop_lag_seconds", "How late the event loop calls a timer, four times a second.",
        (), now.lag_bounds, now.lag,
    )  # fmt: skip
    yield _counter(
        "http_requests", "Requests answered, by the route's template.",
        ("method", "route", "status"), now.requests,
    )  # fmt: skip


def _jobs(now: Snapshot) -> Iterator[Metric]:
    yield _gauge(
        "queue_depth", "Prompts that wait or run, with those of ComfyUI's other clients.",
        now.queue_depth,
    )  # fmt: skip
    live = _by_label(now.live)
    yield _gauges("live_jobs", "Jobs that have not ended, by state.", ("state",), live)
    yield _counter("jobs", "Jobs that have ended.", ("mode", "outcome"), now.jobs)
    yield _counter("job_failures", "Jobs that failed, by code.", ("code",), now.job_failures)
    yield _histogram(
        "job_stage_seconds", "Seconds that jobs spent in each stage that they came to.",
        ("stage",), now.bounds, now.stages,
    )  # fmt: skip


def _nodes(now: Snapshot) -> Iterator[Metric]:
    nodes = SummaryMetricFamily(
        f"{PREFIX}node_seconds",
        "Seconds that nodes ran, without those whose results were cached.",
        labels=("class_type",),
    )
    for labels, seconds in now.node_seconds.items():
        nodes.add_metric(labels, int(now.node_runs[labels]), seconds)
    yield nodes


def _cache(counts: Counts, held: Held | None, downloads: int) -> Iterator[Metric]:
    results = _by_label({"hit": counts.hits, "miss": counts.misses})
    yield _counter("cache_requests", "Files that were asked for.", ("result",), results)
    yield _counter("cache_evictions", "Files deleted to make room.", (), {NONE: counts.evictions})
    yield _counter("cache_evicted_bytes", "Their bytes.", (), {NONE: counts.evicted_bytes})
    outcomes = _by_label({"succeeded": counts.downloads, "failed": counts.failures})
    yield _counter("downloads", "Downloads that have ended.", ("outcome",), outcomes)
    received = {NONE: counts.received_bytes}
    yield _counter("download_received_bytes", "Bytes that downloads received.", (), received)
    yield _gauge("downloads_under_way", "Downloads that go on now.", downloads)
    if held is not None:
        yield _gauge("cache_files", "Files in the cache.", held.files)
        yield _gauge("cache_bytes", "Their bytes.", held.bytes)


def _webhooks(deliveries: Mapping[str, int], journal: Stats | None) -> Iterator[Metric]:
    outcomes = _by_label({name: deliveries.get(key, 0) for name, key in DELIVERIES.items()})
    yield _counter(
        "webhook_deliveries", "What became of webhooks, each failed try that is repeated too.",
        ("outcome",), outcomes,
    )  # fmt: skip
    if journal is None:
        return
    yield _gauge("webhooks_due", "Messages that are recorded and not delivered.", journal.due)
    yield _gauge(
        "webhooks_oldest_due_seconds", "Age of the oldest of them, 0 without any.",
        journal.oldest_due_s,
    )  # fmt: skip
    yield _gauge(
        "webhooks_failed", "Messages out of tries that are still listed.", journal.given_up
    )
    yield _gauge("accepted_jobs", "Jobs that are recorded and not done.", journal.unfinished)
    kinds = _by_label({"due": journal.bytes, "results": journal.result_bytes})
    yield _gauges("state_bytes", "Bytes in STATE_DIR, by what they are for.", ("kind",), kinds)


def _memory(memory: Sequence[DeviceMemory]) -> Iterator[Metric]:
    free = _by_label({device.device: device.free for device in memory})
    total = _by_label({device.device: device.total for device in memory})
    if memory:
        yield _gauges("gpu_memory_free_bytes", "Memory that is free.", ("device",), free)
        yield _gauges("gpu_memory_total_bytes", "Memory that there is.", ("device",), total)


def _by_label(counts: Mapping[str, float]) -> Counted:
    return {(label,): count for label, count in counts.items()}


def _counter(name: str, text: str, labels: Sequence[str], counts: Counted) -> Metric:
    family = CounterMetricFamily(f"{PREFIX}{name}", text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return _gauges(name, text, (), {NONE: value})


def _gauges(name: str, text: str, labels: Sequence[str], values: Counted) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}{name}", text, labels=labels)
    for label_values, value in values.items():
        family.add_metric(label_values, float(value))
    return family


def _histogram(
    name: str,
    text: str,
    labels: Sequence[str],
    bounds: Iterable[float],
    spreads: Mapping[Labels, Spread],
) -> Metric:
    family = HistogramMetricFamily(f"{PREFIX}{name}", text, labels=labels)
    ends = [*(str(float(bound)) for bound in bounds), "+Inf"]
    for values, spread in spreads.items():
        buckets = list(zip(ends, map(float, spread.counts), strict=True))
        family.add_metric(values, buckets, spread.sum)
    return family
