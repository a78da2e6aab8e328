"""How fast ``/ready`` answers while a thousand jobs wait."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp

from .bench import Bench
from .graphs import Graph, coloured, coloured_pixels, decoded, node
from .listeners import ALL, listening, path_of
from .probing import INTERVAL_S, probing
from .rows import Row
from .sides import UNLIMITED, Ours, WrongAnswer, post
from .spread import Spread, percentile

POLL_S = 0.02
SETTLE_S = 1.0
ROUNDS = 3
STREAMS = 50
GATED = "gated"

Waits = dict[str, list[float]]
"""Milliseconds that ``/ready`` took, by what went on meanwhile."""


def measure(bench: Bench) -> list[Row]:
    """Measure ``/ready`` while nothing happens, jobs arrive, all wait, and all are worked off."""
    waits: list[Waits] = []
    for _ in range(min(ROUNDS, bench.plan.rounds)):
        bench.clear()
        waits.append(asyncio.run(_round(bench)))
        bench.require_no_files()
    jobs = f"{bench.plan.jobs:,} jobs"
    labels = {
        "idle": "p99 of /ready, nothing to do",
        "arriving": f"p99 of /ready while {jobs} arrive at once",
        "waiting": f"p99 of /ready while {jobs} wait",
        "watched": f"p99 of /ready while {jobs} wait and {STREAMS} event streams are open",
        "draining": f"p99 of /ready while {jobs} are worked off",
    }
    return [
        Row(f"queue.{name}", label, "ms", Spread.of(percentile(w[name], 99) for w in waits))
        for name, label in labels.items()
    ]


def gated(nonce: int) -> Graph:
    """Return a graph that waits until its gate is opened."""
    return coloured(0, **{"2": node("BenchmarkGate", image=["1", 0], nonce=nonce)})


async def _round(bench: Bench) -> Waits:
    jobs, waits, ours, url = bench.plan.jobs, Waits(), Ours(), bench.server.url
    seconds = bench.plan.probes * INTERVAL_S
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector, timeout=UNLIMITED) as http:

        def send(graph: Graph) -> asyncio.Task[bytes]:
            return asyncio.create_task(post(http, "/api/stateless/prompt", ours.body(graph)))

        with probing(url) as waits["idle"]:
            await asyncio.sleep(seconds / 4)
        gate = {"prompt": gated(time.time_ns() % 2**31), "id": GATED}
        first = asyncio.create_task(post(http, "/api/stateless/prompt", json.dumps(gate).encode()))
        await _until_running(http)
        with probing(url) as waits["arriving"]:
            answers = [send(coloured(colour)) for colour in range(jobs)]
            await _until_full(http)
        await asyncio.sleep(SETTLE_S)
        with probing(url) as waits["waiting"]:
            await asyncio.sleep(seconds)
        with listening(url, STREAMS, ALL, path_of(GATED)):
            await asyncio.sleep(SETTLE_S)
            with probing(url) as waits["watched"]:
                await asyncio.sleep(seconds)
        with probing(url) as waits["draining"]:
            await post(http, "/benchmark/open", b"{}")
            _check(ours, (await asyncio.gather(first, *answers))[1:])
    return waits


async def _until_running(http: aiohttp.ClientSession) -> None:
    running = False
    while not running:
        await asyncio.sleep(POLL_S)
        async with http.get("/queue") as response:
            running = bool((await response.json())["queue_running"])


async def _until_full(http: aiohttp.ClientSession) -> None:
    """Wait until /ready refuses more, which it does when all jobs are there (see ``running``)."""
    status = 200
    while status == 200:
        await asyncio.sleep(POLL_S)
        async with http.get("/api/stateless/ready") as response:
            status = response.status


def _check(ours: Ours, answers: list[bytes]) -> None:
    for colour, answer in enumerate(answers):
        form, pixels = decoded(ours.image(answer))
        if form != "PNG" or (pixels != coloured_pixels(colour)).any():
            raise WrongAnswer(f"The job with colour {colour} got another image.")
