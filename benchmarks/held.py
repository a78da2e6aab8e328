"""Memory that an accepted job takes while it waits."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

import aiohttp

from tests.comfyui.server import Install

from .bench import Bench, Plan, running
from .graphs import Graph
from .larger import branching
from .memory import status_kib
from .queueing import gated
from .rows import Row
from .sides import UNLIMITED, WrongAnswer, session
from .spread import Spread

NODES = 10
CLIENTS = 8
WARM_UP = 20
SETTLE_S = 1.0
ROUNDS = 3
LARGE = 5000
"""From so many jobs on one round is enough: it is long, and its figure is a mean of many."""

NOWHERE = "http://127.0.0.1:9/"
"""A webhook makes a request an accepted one; these jobs never end, so it is never called."""


@dataclass(frozen=True)
class Held:
    """What accepted jobs take, each; and how many are accepted in a second."""

    memory_kib: float
    disk_kib: float
    rate: float


def measure(comfyui: Install, plan: Plan) -> list[Row]:
    """Measure numbers of jobs, each in fresh processes; Linux tells the memory."""
    if not Path("/proc/self/status").exists():
        return []
    return [_row(comfyui, plan, jobs) for jobs in plan.held]


def _row(comfyui: Install, plan: Plan, jobs: int) -> Row:
    rounds = 1 if jobs >= LARGE else min(ROUNDS, plan.rounds)
    found = [held(comfyui, plan, jobs) for _ in range(rounds)]
    disk = median(each.disk_kib for each in found)
    rate = median(each.rate for each in found)
    note = f"and {disk:.1f} KiB of disk each; {rate:.0f} are accepted in a second"
    label = f"{jobs:,} accepted jobs of {NODES} nodes that wait: memory of each"
    return Row(f"held.{jobs}", label, "KiB", Spread.of(f.memory_kib for f in found), note=note)


def held(comfyui: Install, plan: Plan, jobs: int) -> Held:
    """Start a ComfyUI, have jobs accepted that wait behind a gate, and see what they take.

    The process is killed with all of them: nobody works them off.

    Raises:
        WrongAnswer: One was not accepted, or does not wait.
    """
    with running(comfyui, plan) as bench:
        tasks = islice(branching(NODES), jobs + WARM_UP)
        bodies = [_body(task.graph, str(n)) for n, task in enumerate(tasks)]
        process, state = Path(f"/proc/{bench.pid}"), bench.server.base / "state"
        asyncio.run(_accepted(bench.server.url, [_body(gated(0), "gate")]))
        asyncio.run(_accepted(bench.server.url, bodies[jobs:]))
        before, disk = status_kib(process, "RssAnon"), _size(state)
        began = time.perf_counter()
        asyncio.run(_accepted(bench.server.url, bodies[:jobs]))
        seconds = time.perf_counter() - began
        _require_waiting(bench, jobs)
        time.sleep(SETTLE_S)
        grown = status_kib(process, "RssAnon") - before
        return Held(grown / jobs, (_size(state) - disk) / 1024 / jobs, jobs / seconds)


def _body(graph: Graph, job_id: str) -> bytes:
    return json.dumps({"prompt": graph, "id": job_id, "webhook_v2": NOWHERE}).encode()


async def _accepted(url: str, bodies: Sequence[bytes]) -> None:
    numbers = iter(range(len(bodies)))

    async def client(http: aiohttp.ClientSession) -> None:
        for number in numbers:
            headers = {"Content-Type": "application/json"}
            async with http.post(
                "/api/stateless/prompt", data=bodies[number], headers=headers, timeout=UNLIMITED
            ) as answer:
                if answer.status != 202:
                    raise WrongAnswer(f"Not accepted, but {answer.status}: {await answer.text()}")
                await answer.read()

    async def one() -> None:
        async with session(url) as http:
            await client(http)

    await asyncio.gather(*(one() for _ in range(CLIENTS)))


def _require_waiting(bench: Bench, jobs: int) -> None:
    """Raise WrongAnswer unless so many jobs wait."""
    depth = bench.server.get("/api/stateless/status").json["queue"]["depth"]
    if depth != 1 + WARM_UP + jobs:
        raise WrongAnswer(f"{depth} jobs are there, and {jobs} were accepted behind others.")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
