"""The table, the file of a run, and the comparison with an earlier one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .rows import Row
from .spread import Spread

HEADINGS = ("", "ours", "plain", "ours : plain", "budget", "")


def table(rows: Sequence[Row]) -> str:
    """Return the rows as aligned text: medians, the range of the rounds in brackets."""
    return _aligned([HEADINGS, *(_cells(row) for row in rows)])


def notes(rows: Sequence[Row]) -> list[str]:
    """Return what has to be said of single rows."""
    return [f"{row.label}: {row.note}" for row in rows if row.note]


def comparison(rows: Sequence[Row], earlier: Path, *, quick: bool) -> str:
    """Return the rows beside those of an earlier run's file.

    Args:
        quick: Whether this run was a quick one; the earlier one has to be of the same kind.

    Raises:
        OSError, ValueError, KeyError: The file cannot be read, or is no file of a run.
    """
    document = json.loads(earlier.read_text())
    if document["quick"] != quick:
        return f"{earlier} is not compared: only one of the two runs was a quick one."
    then = {row["key"]: row for row in document["rows"]}
    lines = [("", "earlier", "now", "change", "")]
    for row in (row for row in rows if row.key in then):
        name, now = row.telling()
        before = Spread.of(then[row.key][name]["rounds"])
        apart = now.low > before.high or now.high < before.low
        lines.append(
            (
                f"{row.label}{' (ours : plain)' if name == 'ratio' else ''}",
                _shown(before),
                _shown(now),
                f"{now.median / before.median - 1:+.0%}",
                "beyond the spread" if apart else "",
            )
        )
    return _aligned(lines)


def write(path: Path, rows: Sequence[Row], about: Mapping[str, Any]) -> None:
    """Write a run's file: what it ran on, and every row with every round."""
    document = {**about, "rows": [_document(row) for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def _cells(row: Row) -> tuple[str, ...]:
    budget = ""
    if row.budget:
        sign = {"at least": "≥", "at most": "≤"}[row.budget.sign]
        unit = row.unit if row.budget.what == "ours" else "times"
        budget = f"{sign} {row.budget.limit:g} {unit}"
    return (
        row.label,
        f"{_shown(row.ours)} {row.unit}",
        f"{_shown(row.plain)} {row.unit}" if row.plain else "",
        _shown(row.ratio) if row.ratio else "",
        budget,
        {True: "met", False: "MISSED", None: ""}[row.met],
    )


def _shown(spread: Spread) -> str:
    return f"{_figure(spread.median)} ({_figure(spread.low)}-{_figure(spread.high)})"


def _figure(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _aligned(lines: Iterable[Sequence[str]]) -> str:
    cells = list(lines)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _document(row: Row) -> dict[str, Any]:
    budget = row.budget
    return {
        "key": row.key,
        "label": row.label,
        "unit": row.unit,
        "ours": _numbers(row.ours),
        "plain": _numbers(row.plain),
        "ratio": _numbers(row.ratio),
        "budget": budget and {"of": budget.what, "sign": budget.sign, "limit": budget.limit},
        "met": row.met,
        "note": row.note,
    }


def _numbers(spread: Spread | None) -> dict[str, Any] | None:
    if spread is None:
        return None
    return {
        "median": spread.median,
        "low": spread.low,
        "high": spread.high,
        "rounds": spread.values,
    }
