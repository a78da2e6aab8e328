"""What it costs to prepare a request whose files are all cached."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from .bench import Bench
from .file_server import file_server
from .graphs import SMALL, Graph, node
from .rows import Row
from .sides import WrongAnswer
from .spread import Spread

FILES = 8
REQUESTS = 40


def measure(bench: Bench) -> list[Row]:
    """Ask for eight pictures by URL, all cached, and in turn for the same by their local names."""
    with TemporaryDirectory(prefix="stateless-pictures-") as folder:
        names = _pictures(Path(folder), bench.input)
        with file_server(Path(folder)) as server:
            by_url = _graph([f"{server.origin}/{name}" for name in names])
            by_name = _graph(names)
            for graph in (by_url, by_name):
                _latency(bench, graph)
            before = server.sent()
            more = [
                1000 * (_median(bench, by_url) - _median(bench, by_name))
                for _ in range(bench.plan.rounds)
            ]
            if server.sent() != before:
                raise WrongAnswer("A picture was fetched again.")
    label = f"{FILES} pictures by URL, all cached, beside their local names"
    return [Row("prepared.more", label, "ms more", Spread.of(more))]


def _pictures(*folders: Path) -> list[str]:
    """Write small pictures, no two alike, into each folder; return their names."""
    names = [f"prepared-{number}.png" for number in range(FILES)]
    for number, name in enumerate(names):
        file = io.BytesIO()
        Image.fromarray(np.full((SMALL, SMALL, 3), number, np.uint8)).save(file, "PNG")
        for folder in folders:
            (folder / name).write_bytes(file.getvalue())
    return names


def _graph(images: list[str]) -> Graph:
    graph = {str(i): node("LoadImage", image=image) for i, image in enumerate(images)}
    return {**graph, "save": node("SaveImage", images=["0", 0], filename_prefix="prepared")}


def _median(bench: Bench, graph: Graph) -> float:
    return median(_latency(bench, graph) for _ in range(REQUESTS))


def _latency(bench: Bench, graph: Graph) -> float:
    began = time.perf_counter()
    reply: Mapping[str, Any] = bench.server.post("/api/stateless/prompt", {"prompt": graph}).json
    seconds = time.perf_counter() - began
    if len(reply.get("images", ())) != 1:
        raise WrongAnswer(f"One image was asked for: {reply}")
    return seconds
