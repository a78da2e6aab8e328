"""Larger graphs: how much of a request grows with its nodes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from itertools import islice
from statistics import median

import numpy as np
import numpy.typing as npt

from .bench import Bench
from .bursts import Burst
from .checks import check_exact
from .graphs import SMALL, Graph, Task, node, pixel
from .rows import Row, compared
from .sides import Ours, Plain, Side
from .spread import Spread

SIZES = (5, 50, 500)

BRANCH = 10
"""Nodes for each branch: an image, inverted again and again, and blended with the next branch."""

WARM_UP = 3

Colour = npt.NDArray[np.float32]


def measure(bench: Bench) -> list[Row]:
    """Measure graphs of several sizes, with one client."""
    return [_measured(bench, nodes) for nodes in SIZES]


def _measured(bench: Bench, nodes: int) -> Row:
    tasks = branching(nodes)
    sides: tuple[Side, Side] = (Ours(), Plain())
    for side in sides:
        bench.burst(side, list(islice(tasks, WARM_UP)), 1)
    bursts: tuple[list[Burst], list[Burst]] = ([], [])
    for _ in range(bench.plan.rounds):
        for number, side in enumerate(sides):
            asked = list(islice(tasks, max(WARM_UP, bench.plan.requests // (2 * nodes))))
            result = bench.burst(side, asked, 1)
            check_exact(asked, result)
            bursts[number].append(result)
    ours, plain = (Spread.of(b.rate for b in done) for done in bursts)
    latencies = ", ".join(
        f"{side.name} {median(b.latency_ms for b in done):.3g} ms"
        for side, done in zip(sides, bursts, strict=True)
    )
    label = f"graph of {nodes} nodes, 1 client"
    return compared(f"larger.{nodes}.rate", label, "1/s", ours, plain, f"latency: {latencies}")


def branching(nodes: int) -> Iterator[Task]:
    """Yield a graph of so many nodes, each time in other colours, so that no side has it cached."""
    for number in itertools.count(1):
        yield _task(nodes, number)


def _task(nodes: int, number: int) -> Task:
    graph: Graph = {}
    branches = max(1, nodes // BRANCH)
    inverts = nodes - 2 * branches  # but for an image and a blending or the saver for each branch
    ends = []
    for branch in range(branches):
        # Steps by a prime: branches of one colour would be one to ComfyUI's cache.
        colour = (number * branches + branch) * 7_368_787 % 2**24
        length = inverts // branches + (branch < inverts % branches)
        ends.append(_branch(graph, colour, length))
    end, shown = _blended(graph, ends)
    graph["save"] = node("SaveImage", images=[end, 0], filename_prefix="benchmark")
    scaled = np.clip(np.float32(255) * shown, 0, 255).astype(np.uint8)
    return Task(graph, np.broadcast_to(scaled, (SMALL, SMALL, 3)))


def _branch(graph: Graph, colour: int, inverts: int) -> tuple[str, Colour]:
    """Add an image that is inverted; return the last node, and its colour as ComfyUI computes it."""
    value = pixel(colour)
    end = str(len(graph))
    graph[end] = node("EmptyImage", width=SMALL, height=SMALL, batch_size=1, color=colour)
    for _ in range(inverts):
        before, end = end, str(len(graph))
        graph[end] = node("ImageInvert", image=[before, 0])
        value = np.float32(1) - value
    return end, value


def _blended(graph: Graph, ends: list[tuple[str, Colour]]) -> tuple[str, Colour]:
    """Add what blends branches in pairs, and these again, until one is left."""
    while len(ends) > 1:
        (one, first), (other, second), *rest = ends
        end = str(len(graph))
        graph[end] = node(
            "ImageBlend", image1=[one, 0], image2=[other, 0], blend_factor=0.5, blend_mode="normal"
        )
        ends = [*rest, (end, first * np.float32(0.5) + second * np.float32(0.5))]
    return ends[0]
