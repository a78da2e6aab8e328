"""1024 by 1024, loaded and saved: PNG, JPEG, WebP, against ComfyUI's own PNG.

Nothing of a request is cached on either side: ComfyUI's cache holds what the last prompt used,
and the next prompt names another picture. One more pair of bursts asks for one picture again and
again: then both sides have the loaded picture cached and only save.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np

from .bench import Bench
from .bursts import Burst
from .checks import EVERY, check_alike, check_exact
from .graphs import Graph, Task, decoded, loaded, write_photos
from .rows import Row, compared
from .sides import Ours, Plain, Side, WrongAnswer
from .spread import Spread

CLIENTS = 8
SLOWER = 3
"""The plain side, and WebP, get a third of the requests, for about the same time."""

MAX_DECODERS_DIFFERENCE = 2.0


@dataclass(frozen=True)
class Way:
    """One way to save: who does it, how many requests, and how an answer is checked."""

    side: Side
    requests: int
    check: Callable[[Sequence[Task], Burst], None]


def measure(bench: Bench) -> list[Row]:
    """Measure the formats, then PNG with the loading cached."""
    tasks, plain_sizes = pictures(bench)
    sizes = [len(image) for image in bench.burst(Ours(), tasks, CLIENTS).images]
    many, few = bench.plan.pictures, bench.plan.pictures // SLOWER
    png, plain = Way(Ours(), many, _exact), Way(Plain(), few, _exact)
    ways = {
        "plain": plain,
        "png": png,
        "jpeg": Way(Ours({"format": "jpeg"}), many, lambda t, b: check_alike(t, b, "JPEG")),
        "webp": Way(Ours({"format": "webp"}), few, lambda t, b: check_alike(t, b, "WEBP")),
    }
    if bench.beside:
        ways["beside"] = Way(bench.beside, few, _exact)
    bursts = _rounds(bench, ways, tasks)
    again = [Task(repeated(tasks[0].graph, n), tasks[0].expected) for n in range(many)]
    cached = _rounds(bench, {"plain": plain, "png": png}, again)
    return [
        _rate("png", bursts["png"], bursts["plain"], bursts.get("beside", ())),
        *(_rate(form, bursts[form], bursts["plain"]) for form in ("jpeg", "webp")),
        _rate("cached", cached["png"], cached["plain"]),
        _sizes(sizes, plain_sizes),
    ]


def pictures(bench: Bench) -> tuple[list[Task], list[int]]:
    """Put the pictures into ComfyUI's input folder and have plain ComfyUI save each.

    What it saves is what has to come back.

    Returns:
        A task for each picture, and the size of plain ComfyUI's PNG of it in bytes.

    Raises:
        WrongAnswer: It is not the picture that was written.
    """
    names = write_photos(bench.input)
    asked = [Task(loaded(name), np.empty((0, 0, 3), np.uint8)) for name in names]
    images = bench.burst(Plain(), asked, 1).images
    tasks = []
    for name, task, image in zip(names, asked, images, strict=True):
        pixels, written = decoded(image)[1], decoded((bench.input / name).read_bytes())[1]
        # Two decoders of JPEG may differ by a little, and ComfyUI does not round.
        if np.abs(pixels.astype(int) - written).mean() > MAX_DECODERS_DIFFERENCE:
            raise WrongAnswer(f"Plain ComfyUI saved another picture than {name}.")
        tasks.append(Task(task.graph, pixels))
    return tasks, [len(image) for image in images]


def repeated(graph: Graph, number: int) -> Graph:
    """Return the graph with another prefix: plain ComfyUI does not save the same twice."""
    saver = graph["9"]
    inputs = {**saver["inputs"], "filename_prefix": f"benchmark-{number}"}
    return {**graph, "9": {**saver, "inputs": inputs}}


def _rounds(bench: Bench, ways: dict[str, Way], tasks: Sequence[Task]) -> dict[str, list[Burst]]:
    bursts: dict[str, list[Burst]] = {name: [] for name in ways}
    for way in ways.values():
        bench.burst(way.side, tasks[:CLIENTS], CLIENTS)
    for _ in range(bench.plan.rounds):
        for name, way in ways.items():
            asked = list(islice(cycle(tasks), way.requests))
            result = bench.burst(way.side, asked, CLIENTS)
            way.check(asked, result)
            bursts[name].append(result)
    return bursts


def _exact(tasks: Sequence[Task], burst: Burst) -> None:
    check_exact(tasks, burst, EVERY)


_LABELS = {
    "png": "1024², loaded and saved, 8 clients: PNG",
    "jpeg": "1024², loaded and saved, 8 clients: JPEG",
    "webp": "1024², loaded and saved, 8 clients: WebP",
    "cached": "1024², loading cached, 8 clients: PNG",
}


def _rate(
    form: str,
    ours: Sequence[Burst],
    plain: Sequence[Burst],
    beside: Sequence[Burst] = (),
) -> Row:
    return compared(
        f"pictures.{form}.rate", _LABELS[form], "1/s",
        Spread.of(b.rate for b in ours), Spread.of(b.rate for b in plain),
        beside=Spread.of(b.rate for b in beside) if beside else None,
    )  # fmt: skip


def _sizes(ours: Sequence[int], plain: Sequence[int]) -> Row:
    return compared(
        "pictures.png.size", f"PNG of {len(ours)} pictures of 1024²: size", "KiB",
        Spread.of(size / 1024 for size in ours), Spread.of(size / 1024 for size in plain),
        "by picture, not by round",
    )  # fmt: skip
