"""The table, the file of a run, and the comparison with an earlier one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .rows import Row
from .spread import Spread, shown

COLUMNS = (
    "row", "ours", "plain", "ours : plain", "beside", "ours : beside", "budget", "met",
)  # fmt: skip
UNNAMED = frozenset({"row", "met"})
ALWAYS = frozenset({"row", "ours"})


def table(rows: Sequence[Row]) -> str:
    """Return the rows as aligned text: medians, the range of the rounds in brackets."""
    return _aligned(_lines(rows))


def markdown(rows: Sequence[Row]) -> str:
    """Return the same as a table in Markdown."""
    head, *lines = (f"| {' | '.join(line)} |" for line in _lines(rows))
    ruler = "|---" * len(_columns(rows)) + "|"
    return "\n".join([head, ruler, *lines]) + "\n"


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
                shown(before),
                shown(now),
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


def _lines(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    columns = _columns(rows)
    lines = [tuple(cells(row)[name] for name in columns) for row in rows]
    return [tuple("" if name in UNNAMED else name for name in columns), *lines]


def _columns(rows: Sequence[Row]) -> list[str]:
    """Return the names of the columns: what no row has is left out."""
    found = [cells(row) for row in rows]
    return [name for name in COLUMNS if name in ALWAYS or any(cell[name] for cell in found)]


def cells(row: Row) -> dict[str, str]:
    """Return what the table says of a row, by column."""
    return {
        "row": row.label,
        "ours": _with_unit(row.ours, row),
        "plain": _with_unit(row.plain, row),
        "ours : plain": _told(row.ratio),
        "beside": _with_unit(row.beside, row),
        "ours : beside": _told(row.beside_ratio),
        "budget": _budget(row),
        "met": {True: "met", False: "MISSED", None: ""}[row.met],
    }


def _budget(row: Row) -> str:
    if row.budget is None:
        return ""
    sign = {"at least": "≥", "at most": "≤"}[row.budget.sign]
    unit = row.unit if row.budget.what == "ours" else "times"
    return f"{sign} {row.budget.limit:g} {unit}"


def _with_unit(spread: Spread | None, row: Row) -> str:
    return f"{shown(spread)} {row.unit}" if spread else ""


def _told(spread: Spread | None) -> str:
    return shown(spread) if spread else ""


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
        "beside": _numbers(row.beside),
        "beside_ratio": _numbers(row.beside_ratio),
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
