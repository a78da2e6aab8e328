"""Scrapes as Prometheus reads them."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_text

PREFIX = "comfyui_stateless_"

TEXT = "text/plain"
OPENMETRICS = "application/openmetrics-text"


@dataclass(frozen=True)
class Scrape:
    """What a scrape has said."""

    families: dict[str, Metric]

    def value(self, sample: str, **labels: str) -> float:
        """Return the value of one of our samples, by the name without the prefix."""
        found = [
            each.value
            for family in self.families.values()
            for each in family.samples
            if each.name == PREFIX + sample and each.labels == labels
        ]
        assert len(found) == 1, (sample, labels, found)
        return found[0]

    def all(self, sample: str, label: str) -> dict[str, float]:
        """Return the values of one of our samples by one of its labels, added up."""
        found: dict[str, float] = {}
        for family in self.families.values():
            for each in family.samples:
                if each.name == PREFIX + sample:
                    key = each.labels[label]
                    found[key] = found.get(key, 0) + each.value
        return found

    def has(self, sample: str) -> bool:
        return any(
            each.name == PREFIX + sample for f in self.families.values() for each in f.samples
        )

    @property
    def ours(self) -> list[Metric]:
        return [family for family in self.families.values() if family.name.startswith(PREFIX)]


def read(text: str, media_type: str) -> Scrape:
    """Read a page in the format that its type says."""
    is_open = media_type == OPENMETRICS
    families = list(read_openmetrics(text) if is_open else read_text(text))  # type: ignore[no-untyped-call]
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "a family comes twice"
    return Scrape({family.name: family for family in families})


UNITS = ("seconds", "bytes", "info")

TYPES = {"gauge", "counter", "histogram", "summary", "info"}


def complaints(scrape: Scrape) -> list[str]:
    """Return what Prometheus's own linter, and its naming guide, would have against our names."""
    found = []
    for family in scrape.ours:
        if not family.documentation.strip():
            found.append(f"{family.name} has no HELP")
        if family.type not in TYPES:
            found.append(f"{family.name} has the type {family.type}")
        words = set(family.name.split("_"))
        if words & {"gauge", "counter", "histogram", "summary", "ms", "milliseconds", "minutes"}:
            found.append(f"{family.name} names a type, or no base unit")
        if words & set(UNITS) and not family.name.endswith(UNITS):
            found.append(f"{family.name} does not end with its unit")
        if family.type != "counter" and family.name.endswith(("_total", "_count", "_sum")):
            found.append(f"{family.name} has a suffix of another type")
        found += [
            f"{sample.name} is a counter without _total"
            for sample in family.samples
            if family.type == "counter" and not sample.name.endswith(("_total", "_created"))
        ]
    return found
