"""What open streams of events cost a request of the smallest graph, and in memory.

Idle streams are of one job whose input never comes: nothing is told on them. Those that watch hear
of every job, so of each request that is measured.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tests.comfyui.server import Install

from .bench import Bench, Plan, running
from .checks import check_exact
from .file_server import STEP_BYTES, file_server
from .graphs import Graph, Task, node, smallest
from .listeners import ALL, listening, path_of
from .memory import status_kib
from .rows import Row
from .sides import Ours, WrongAnswer
from .smallest import WARM_UP
from .spread import Spread

STALLED = "stalled"
BYTES_PER_SECOND = STEP_BYTES // 40
"""A step of the file server then takes 40 seconds: less than after which a download gives up."""

FILE_BYTES = 40 * STEP_BYTES
WITHIN_S = 30
ROUNDS = 3


@dataclass(frozen=True)
class Rate:
    """Requests a second, and what each took of the event loop's CPU time, in milliseconds."""

    rate: float
    loop_ms: float


def measure(comfyui: Install, plan: Plan) -> list[Row]:
    """Measure requests without streams and with idle and with watching ones, in a fresh process."""
    with running(comfyui, plan) as bench, stalled(bench):
        tasks = smallest()
        for _ in range(2):
            _rate(bench, list(islice(tasks, WARM_UP)))
        rows = _memory(bench)
        found = _rates(bench, tasks)
    return [
        *(_cost(kind, plan.streams, found[kind], found["none"]) for kind in ("idle", "watching")),
        *rows,
    ]


@contextmanager
def stalled(bench: Bench) -> Iterator[None]:
    """Have a job whose input does not come, for the block."""
    with TemporaryDirectory(prefix="stateless-stalled-") as folder:
        Path(folder, "slow.png").write_bytes(bytes(FILE_BYTES))
        with file_server(Path(folder), BYTES_PER_SECOND) as server:
            graph = slow(f"{server.origin}/slow.png")
            asked = threading.Thread(target=_ask, args=(bench, graph))
            asked.start()
            try:
                _until_known(bench)
                yield
            finally:
                bench.server.post("/api/stateless/interrupt", {"id": STALLED})
                asked.join()


def slow(url: str) -> Graph:
    """Return a graph that needs a file of this URL."""
    loads = node("LoadImage", image=url)
    saves = node("SaveImage", images=["1", 0], filename_prefix="slow")
    return {"1": loads, "9": saves}


def _ask(bench: Bench, graph: Graph) -> None:
    bench.server.prompt(graph, timeout=3600, id=STALLED)


def _until_known(bench: Bench) -> None:
    deadline = time.monotonic() + WITHIN_S
    while bench.server.get(f"/api/stateless/prompt/{STALLED}").status != 200:
        if time.monotonic() > deadline:
            raise WrongAnswer("The job that waits for its input is not known.")
        time.sleep(0.05)


def _memory(bench: Bench) -> list[Row]:
    """Measure first of all: what closed streams have freed would hide what open ones take."""
    process, streams = Path(f"/proc/{bench.pid}"), bench.plan.streams
    if not process.exists():
        return []
    grown = []
    for _ in range(ROUNDS):
        before = status_kib(process, "RssAnon")
        with listening(bench.server.url, streams, path_of(STALLED)):
            grown.append((status_kib(process, "RssAnon") - before) / streams)
    label = f"{streams} idle event streams: memory of each"
    return [Row("streams.memory", label, "KiB", Spread.of([max(grown)]))]


def _rates(bench: Bench, tasks: Iterator[Task]) -> dict[str, list[Rate]]:
    found: dict[str, list[Rate]] = {"none": [], **{kind: [] for kind in _PATHS}}
    for _ in range(bench.plan.rounds):
        asked = list(islice(tasks, bench.plan.requests // 2))
        found["none"].append(_rate(bench, asked))
        for kind, path in _PATHS.items():
            asked = list(islice(tasks, bench.plan.requests // 2))
            with listening(bench.server.url, bench.plan.streams, path):
                found[kind].append(_rate(bench, asked))
    return found


def _rate(bench: Bench, asked: list[Task]) -> Rate:
    before = _loop_ms(bench)
    result = bench.burst(Ours(), asked, 1)
    spent = _loop_ms(bench) - before
    check_exact(asked, result)
    return Rate(result.rate, spent / len(asked))


def _loop_ms(bench: Bench) -> float:
    """Return the CPU time of the thread of the event loop; 0 where the system does not tell."""
    found = Path(f"/proc/{bench.pid}/schedstat")
    return int(found.read_text().split()[0]) / 1e6 if found.exists() else 0.0


def _cost(kind: str, streams: int, with_streams: list[Rate], without: list[Rate]) -> Row:
    label = f"smallest graph, 1 client: with {streams} {kind} event streams, beside none"
    said = [
        f"{median(each.rate for each in rates):.0f} requests a second and "
        f"{median(each.loop_ms for each in rates):.2f} ms of the loop's CPU for each {which}"
        for which, rates in (("with", with_streams), ("without", without))
    ]
    pairs = zip(with_streams, without, strict=True)
    ratio = Spread.of(one.rate / other.rate for one, other in pairs)
    return Row(f"streams.{kind}.rate", label, "times as fast", ratio, note=", ".join(said))


_PATHS = {"idle": path_of(STALLED), "watching": ALL}
