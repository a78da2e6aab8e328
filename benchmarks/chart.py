"""A run as a picture: every round of every row as a mark, in SVG, without a library.

Each row has two panels: its figures on a scale of its own that begins at 0, and its ratios on one
logarithmic scale for all rows, where twice and half lie equally far from 1. The middle bar of a
line is its median, the line its range, the dashed stroke the budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap
from xml.sax.saxutils import escape

from .report import cells
from .rows import Row
from .spread import Spread, shown

LABEL_X, LABEL_CHARACTERS = 20, 42
FIGURES_X, FIGURES_WIDTH = 330, 270
RATIO_X, RATIO_WIDTH = 810, 270
SAID = 14
"""Between a panel and what is said of its marks."""

WIDTH = 1260
TOP, LANE, EDGE, LINE = 118, 18, 9, 15

STYLE = """
svg { --back: #fff; --text: #1f2328; --faint: #656d76; --band: #f6f8fa; --grid: #d0d7de;
  --ours: #0969da; --plain: #bc4c00; --beside: #8250df; --budget: #cf222e; }
@media (prefers-color-scheme: dark) { svg { --back: #0d1117; --text: #e6edf3; --faint: #9198a1;
  --band: #151b23; --grid: #3d444d; --ours: #4493f8; --plain: #f0883e; --beside: #ab7df8;
  --budget: #f85149; } }
text { font: 12px system-ui, sans-serif; fill: var(--text); }
.title { font-size: 16px; font-weight: 600; }
.faint { fill: var(--faint); font-size: 11px; }
.back { fill: var(--back); } .band { fill: var(--band); }
.grid { stroke: var(--grid); } .one { stroke: var(--faint); }
.budget { stroke: var(--budget); stroke-width: 1.5; stroke-dasharray: 4 3; }
.missed { fill: var(--budget); font-weight: 600; }
.ours, text.ours { fill: var(--ours); stroke: var(--ours); }
.plain, text.plain { fill: var(--plain); stroke: var(--plain); }
.beside, text.beside { fill: var(--beside); stroke: var(--beside); }
text.ours, text.plain, text.beside { stroke: none; }
.round { fill-opacity: .35; stroke-width: 1; } .median { stroke-width: 3; }
"""


@dataclass(frozen=True)
class Lane:
    """One line of marks: whose they are, and every round."""

    side: str
    spread: Spread


@dataclass(frozen=True)
class Scale:
    """Where values lie on a panel."""

    x: float
    width: float
    low: float
    high: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """Return the x of a value; one beyond the scale lies on its edge."""
        low, high, value = (
            map(math.log2, (self.low, self.high, max(value, self.low)))
            if self.is_log
            else (self.low, self.high, value)
        )
        part = (value - low) / (high - low)
        return self.x + self.width * min(1.0, max(0.0, part))


def svg(rows: Sequence[Row], title: str) -> str:
    """Return the picture of a run.

    Args:
        title: What was measured, on what machine.
    """
    ratios = _ratio_scale(rows)
    parts: list[str] = []
    y: float = TOP
    for number, row in enumerate(rows):
        height = _height(row)
        if number % 2:
            parts.append(f'<rect class="band" y="{y}" width="{WIDTH}" height="{height}"/>')
        parts += _row(row, y, ratios)
        y += height
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + EDGE}" '
        f'width="{WIDTH}" height="{y + EDGE}">'
    )
    back = f'<rect class="back" width="{WIDTH}" height="{y + EDGE}"/>'
    body = [head, f"<style>{STYLE}</style>", back, *_legend(title, rows)]
    return "\n".join([*body, *parts, *_grid(ratios, TOP, y), "</svg>"]) + "\n"


def _legend(title: str, rows: Sequence[Row]) -> Iterator[str]:
    yield _text(LABEL_X, 30, title, "title")
    names = {
        "ours": "this extension",
        "plain": "what a user has without it",
        "beside": "the other server",
    }
    found = {lane.side for row in rows for lane in _figures(row)}
    x: float = LABEL_X
    for side in (side for side in names if side in found):
        yield _mark(side, x + 5, 52, 4.5)
        yield _text(x + 16, 56, names[side], side)
        x += 30 + 7 * len(names[side])
    yield f'<path class="budget" d="M{x + 4} 46v12"/>'
    said = "budget; each mark is a round, the bar the median, the line the range"
    yield _text(x + 14, 56, said, "faint")
    yield _text(FIGURES_X, TOP - 28, "figures, each row on a scale from 0")
    yield _text(RATIO_X, TOP - 28, "ours : other, logarithmic")


def _row(row: Row, y: float, ratios: Scale) -> Iterator[str]:
    yield "<g>"
    for number, line in enumerate(_label(row)):
        yield _text(LABEL_X, y + EDGE + 12 + LINE * number, line, "" if number else "label")
    yield _under(row, y + EDGE + 12 + LINE * len(_label(row)))
    figures, of = _figures(row), row.budget
    limit = of.limit if of and of.what == "ours" else None
    most = max([*(lane.spread.high for lane in figures), limit or 0.0])
    least = min([0.0, *(lane.spread.low for lane in figures)])
    scale = Scale(FIGURES_X, FIGURES_WIDTH, least, most if most > least else least + 1)
    yield from _panel(figures, scale, y, limit, row.unit)
    limit = of.limit if of and of.what != "ours" else None
    yield from _panel(_ratios(row), ratios, y, limit, "")
    yield "</g>"


def _under(row: Row, y: float) -> str:
    """Return what is said of a row below its label."""
    told = escape(f"{row.unit}, {'less' if row.is_less_better else 'more'} is better")
    if row.budget:
        kind = "missed" if row.met is False else "met"
        budget = escape(f"budget {cells(row)['budget']}: {kind}")
        told += f' · <tspan class="{kind}">{budget}</tspan>'
    return f'<text x="{LABEL_X}" y="{y}" class="faint">{told}</text>'


def _panel(
    lanes: Sequence[Lane], scale: Scale, y: float, limit: float | None, unit: str
) -> Iterator[str]:
    """Draw the lanes, and the budget across the first, which is the one that it judges."""
    if not lanes:
        return
    bottom = y + EDGE + LANE * len(lanes)
    if not scale.is_log:
        yield f'<path class="grid" d="M{scale.x} {y + EDGE}V{bottom}"/>'
    for number, lane in enumerate(lanes):
        yield from _lane(lane, scale, y + EDGE + LANE * (number + 0.5), unit)
    if limit is not None:
        yield f'<path class="budget" d="M{scale.at(limit):.1f} {y + EDGE - 3}v{LANE + 6}"/>'


def _lane(lane: Lane, scale: Scale, y: float, unit: str) -> Iterator[str]:
    spread, side = lane.spread, lane.side
    low, middle, high = (scale.at(v) for v in (spread.low, spread.median, spread.high))
    yield f'<path class="{side}" d="M{low:.1f} {y}H{high:.1f}"/>'
    for value in spread.values:
        yield _mark(side, scale.at(value), y)
    yield f'<path class="{side} median" d="M{middle:.1f} {y - 6}v12"/>'
    yield _text(scale.x + scale.width + SAID, y + 4, f"{shown(spread)} {unit}".rstrip(), side)


def _mark(side: str, x: float, y: float, size: float = 3.5) -> str:
    """Draw a round; each side has a shape of its own, for who sees no difference in colours."""
    kind = f'class="{side} round"'
    if side == "ours":
        return f'<circle {kind} cx="{x:.1f}" cy="{y}" r="{size}"/>'
    if side == "plain":
        place = f'x="{x - size:.1f}" y="{y - size}"'
        return f'<rect {kind} {place} width="{2 * size}" height="{2 * size}"/>'
    far = size * 1.3
    return f'<path {kind} d="M{x:.1f} {y - far}l{far} {far}l-{far} {far}l-{far}-{far}z"/>'


def _grid(scale: Scale, top: float, bottom: float) -> Iterator[str]:
    """Draw the lines of the ratios' scale behind and above their panel."""
    first, last = round(math.log2(scale.low)), round(math.log2(scale.high))
    step = max(1, -(-(last - first) // 8))
    for power in range(first, last + 1):
        if power % step == 0:
            x, kind = scale.at(2.0**power), "grid" if power else "one"
            yield f'<path class="{kind}" opacity=".6" d="M{x:.1f} {top}V{bottom}"/>'
            name = f"{2**power}" if power >= 0 else f"1/{2**-power}"
            yield _text(x, top - 8, name, "faint", 'text-anchor="middle"')


def _ratio_scale(rows: Sequence[Row]) -> Scale:
    """Return a scale from a power of two to another that has all ratios, their budgets and 1."""
    values = [value for row in rows for lane in _ratios(row) for value in lane.spread.values]
    values += [row.budget.limit for row in rows if row.budget and row.budget.what != "ours"]
    positive = [value for value in values if value > 0]
    low, high = min([0.5, *positive]), max([2.0, *positive])
    ends = 2.0 ** math.floor(math.log2(low)), 2.0 ** math.ceil(math.log2(high))
    return Scale(RATIO_X, RATIO_WIDTH, *ends, is_log=True)


def _figures(row: Row) -> list[Lane]:
    sides = {"ours": row.ours, "plain": row.plain, "beside": row.beside}
    return [Lane(side, spread) for side, spread in sides.items() if spread]


def _ratios(row: Row) -> list[Lane]:
    sides = {"plain": row.ratio, "beside": row.beside_ratio}
    return [Lane(side, spread) for side, spread in sides.items() if spread]


def _label(row: Row) -> list[str]:
    return wrap(row.label, LABEL_CHARACTERS)


def _height(row: Row) -> float:
    words = LINE * (len(_label(row)) + 1)
    return 2 * EDGE + max(words, LANE * len(_figures(row)))


def _text(x: float, y: float, text: str, kind: str = "", more: str = "") -> str:
    attributes = " ".join(filter(None, [kind and f'class="{kind}"', more]))
    return f'<text x="{x:g}" y="{y:g}" {attributes}>{escape(text)}</text>'
