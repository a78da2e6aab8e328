"""How fast ``/ready`` answers while a thousand jobs wait."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp

from .bench import Bench
from .graphs import Graph, coloured, coloured_pixels, decoded, node
from .listeners import ALL, listening, path_of
from .rows import Row
from .sides import UNLIMITED, Ours, WrongAnswer, post
from .spread import Spread, percentile

INTERVAL_S = 0.005
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
    jobs, waits, ours = bench.plan.jobs, Waits(), Ours()
    async with AsyncExitStack() as stack:
        http, probe = [
            await stack.enter_async_context(
                aiohttp.ClientSession(
                    bench.server.url,
                    connector=aiohttp.TCPConnector(limit=0),
                    timeout=UNLIMITED,
                )
            )
            for _ in range(2)
        ]

        def send(graph: Graph) -> asyncio.Task[bytes]:
            return asyncio.create_task(post(http, "/api/stateless/prompt", ours.body(graph)))

        waits["idle"] = await probed(probe, lambda sent: sent < bench.plan.probes // 4)
        gate = {"prompt": gated(time.time_ns() % 2**31), "id": GATED}
        first = asyncio.create_task(post(http, "/api/stateless/prompt", json.dumps(gate).encode()))
        await _until_running(probe)
        answers = [send(coloured(colour)) for colour in range(jobs)]
        waits["arriving"] = await _while(probe, _until_full(probe))
        await asyncio.sleep(SETTLE_S)
        waits["waiting"] = await probed(probe, lambda sent: sent < bench.plan.probes)
        waits["watched"] = await asyncio.to_thread(_watched, bench)
        await post(http, "/benchmark/open", b"{}")
        done = asyncio.gather(first, *answers)
        waits["draining"] = await _while(probe, done)
        _check(ours, (await done)[1:])
    return waits


def _watched(bench: Bench) -> list[float]:
    """Probe while streams are open: half of them of all jobs, half of the one that runs."""

    async def probed_by_itself() -> list[float]:
        async with aiohttp.ClientSession(bench.server.url, timeout=UNLIMITED) as probe:
            return await probed(probe, lambda sent: sent < bench.plan.probes)

    with listening(bench.server.url, STREAMS, ALL, path_of(GATED)):
        time.sleep(SETTLE_S)
        return asyncio.run(probed_by_itself())


async def probed(http: aiohttp.ClientSession, more: Callable[[int], bool]) -> list[float]:
    """Ask ``/ready`` at a fixed beat; return the milliseconds from each beat to its answer.

    A beat does not wait for the answer of the one before: a server that stops for 300 ms shows as
    60 slow answers, not as one.
    """

    async def ask(due: float) -> float:
        async with http.get("/api/stateless/ready") as response:
            await response.read()
        return (time.perf_counter() - due) * 1000

    began, asked = time.perf_counter(), list[asyncio.Task[float]]()
    while more(len(asked)):
        due = began + len(asked) * INTERVAL_S
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asked.append(asyncio.create_task(ask(due)))
    return list(await asyncio.gather(*asked))


async def _while(http: aiohttp.ClientSession, work: Awaitable[object]) -> list[float]:
    pending = asyncio.ensure_future(work)
    return await probed(http, lambda sent: sent == 0 or not pending.done())


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
