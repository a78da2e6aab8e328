"""Curves over time as an SVG picture, without a library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, EDGE = 860, 180, 60


@dataclass(frozen=True)
class Curve:
    """What is drawn: a title with its unit, and values by seconds."""

    title: str
    points: Sequence[tuple[float, float]]


def svg(curves: Sequence[Curve]) -> str:
    """Return a picture with the curves one below the other."""
    height = len(curves) * (HEIGHT + EDGE) + EDGE // 2
    parts = [_drawn(curve, n * (HEIGHT + EDGE) + EDGE // 2) for n, curve in enumerate(curves)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + 2 * EDGE}" height="{height}"'
    return f'{head} font-family="sans-serif" font-size="12">\n{"".join(parts)}</svg>\n'


def _drawn(curve: Curve, top: int) -> str:
    last = max((at for at, _ in curve.points), default=0) or 1
    most = max((value for _, value in curve.points), default=0) or 1
    line = " ".join(
        f"{EDGE + at / last * WIDTH:.1f},{top + HEIGHT - value / most * HEIGHT:.1f}"
        for at, value in curve.points
    )
    frame = f'<rect x="{EDGE}" y="{top}" width="{WIDTH}" height="{HEIGHT}"'
    return (
        f'{frame} fill="none" stroke="#bbb"/>\n'
        f'<text x="{EDGE}" y="{top - 6}">{curve.title}</text>\n'
        f'<text x="{EDGE - 6}" y="{top + 10}" text-anchor="end">{most:g}</text>\n'
        f'<text x="{EDGE - 6}" y="{top + HEIGHT}" text-anchor="end">0</text>\n'
        f'<text x="{EDGE + WIDTH}" y="{top + HEIGHT + 16}" text-anchor="end">{last:.0f} s</text>\n'
        f'<polyline points="{line}" fill="none" stroke="#2563eb"/>\n'
    )
