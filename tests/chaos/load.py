"""Load on a real ComfyUI for a settable time: queued jobs, open streams, large responses at once.

Run as a program. What is to hold: nothing lost or mixed, memory and open files flat, the probe
quick. The seconds may be an hour and more; ``--plot`` draws what was measured.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web

from tests.chaos.measures import Measures, measured
from tests.chaos.plot import Curve, svg
from tests.comfyui.conftest import installs, required
from tests.comfyui.graphs import Graph, node, pixels
from tests.comfyui.server import ComfyServer
from tests.ports import free_port

LARGE_MIB = 5
SUBMITTERS = 12
LARGE_EVERY_S = 20.0
STUCK_S = 120.0
"""Within which one job at least has to end, as long as any waits: how many do is the machine's affair."""

POLL_S = 0.1


@dataclass
class Load:
    """What is sent to a server, and what comes back.

    Attributes:
        waiting: The numbers of accepted jobs that no message has come of yet, by their ids.
        left: How many of them there were in each state, as the server says, when it was given up.
        wrong: What was mixed up or refused.
    """

    url: str
    jobs: int
    streams: int
    large: int
    waiting: dict[str, int] = field(default_factory=dict)
    left: Counter[str] = field(default_factory=Counter)
    early: set[str] = field(default_factory=set)
    done: int = 0
    events: int = 0
    large_done: int = 0
    wrong: list[str] = field(default_factory=list)
    hook: str = ""
    _next: int = 0

    async def run(self, seconds: float) -> None:
        """Load the server for some seconds; return when what was accepted has ended, or none ends."""
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(
            timeout=timeout, connector=aiohttp.TCPConnector(limit=0)
        ) as self._client:
            runner = await self._receive()
            tasks = [asyncio.create_task(work) for work in self._works()]
            try:
                await asyncio.sleep(seconds)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            await self._drain()
            await runner.cleanup()

    def _works(self) -> list[Coroutine[Any, Any, None]]:
        return [
            *(self._submit() for _ in range(SUBMITTERS)),
            *(self._listen(number) for number in range(self.streams)),
            self._ask_for_large(),
        ]

    async def _receive(self) -> web.AppRunner:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/hook", self._take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", int(self.hook.rpartition(":")[2])).start()
        return runner

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.json()
        number = self.waiting.pop(body["id"], None)
        if number is None:
            self.early.add(body["id"])
            number = int(body["id"].partition(" ")[0])
        self.done += 1
        if body["type"] != "prompt.complete":
            self.wrong.append(f"{body['id']}: {body['error']}")
        elif not _is_of(body["images"], number):
            self.wrong.append(f"{body['id']} has the picture of another")
        return web.Response()

    async def _submit(self) -> None:
        while True:
            if len(self.waiting) >= self.jobs:
                await asyncio.sleep(0.02)
                continue
            self._next += 1
            number, job_id = self._next, f"{self._next} {os.urandom(4).hex()}"
            body = {"prompt": _graph(number), "id": job_id, "webhook_v2": f"{self.hook}/hook"}
            async with self._client.post(f"{self.url}/prompt", json=body) as response:
                if response.status != 202:
                    self.wrong.append(f"{job_id}: {await response.text()}")
                elif job_id not in self.early:
                    self.waiting[job_id] = number
                self.early.discard(job_id)

    async def _listen(self, number: int) -> None:
        """Follow all jobs, or one after the other that waits."""
        while True:
            path = "/events" if number % 2 else await self._path_of_one()
            with suppress(aiohttp.ClientError):
                async with self._client.get(self.url + path) as response:
                    async for _ in response.content:
                        self.events += 1

    async def _path_of_one(self) -> str:
        await _until(lambda: bool(self.waiting), STUCK_S)
        ids = list(self.waiting)
        job_id = random.choice(ids[len(ids) // 2 :])  # of the older ones some have ended by now
        return f"/prompt/{quote(job_id)}/events"

    async def _ask_for_large(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.gather(*(self._one_large(n) for n in range(self.large)))
            await asyncio.sleep(max(0.0, LARGE_EVERY_S - (time.monotonic() - began)))

    async def _one_large(self, number: int) -> None:
        graph = {"1": node("TestSavesLarge", mib=LARGE_MIB, filename_prefix=f"large{number}")}
        body = {"prompt": graph, "priority": 10}
        async with self._client.post(f"{self.url}/prompt", json=body) as response:
            content = await response.read()
        (image,) = json.loads(content)["images"] if response.status == 200 else [""]
        if len(image) != 4 * -(-LARGE_MIB * 2**20 // 3):
            self.wrong.append(f"large {number}: {response.status} {content[:200]!r}")
        self.large_done += 1

    async def _drain(self) -> None:
        done, since = self.done, time.monotonic()
        while self.waiting and time.monotonic() - since < STUCK_S:
            await asyncio.sleep(POLL_S)
            if done != self.done:
                done, since = self.done, time.monotonic()
        self.left = Counter([await self._state(job_id) for job_id in self.waiting])

    async def _state(self, job_id: str) -> str:
        """Return what the server says of a job: where it has ended, its message did not come."""
        async with self._client.get(f"{self.url}/prompt/{quote(job_id)}") as response:
            said = await response.json()
            return str(said["state"] if response.status == 200 else said["code"])


async def _until(condition: Callable[[], bool], within_s: float) -> None:
    for _ in range(int(within_s / POLL_S)):
        if condition():
            return
        await asyncio.sleep(POLL_S)


def _graph(number: int) -> Graph:
    return {
        "1": node("EmptyImage", width=8, height=8, batch_size=1, color=number),
        "9": node("SaveImage", images=["1", 0], filename_prefix="load"),
    }


def _is_of(images: list[str], number: int) -> bool:
    (image,) = images
    colour = [number >> 16, number >> 8 & 255, number & 255]
    return bool((pixels(base64.b64decode(image)) == colour).all())


def drawn(measures: Measures) -> str:
    """Return the picture of what was measured."""
    return svg(
        [
            Curve("Resident memory (MiB)", measures.memory),
            Curve("Open files", measures.files),
            Curve("GET /ready (ms)", measures.ready),
        ]
    )


def told(load: Load, measures: Measures) -> str:
    """Return the figures, a line each."""
    return (
        f"jobs: {load.done} done, {len(load.waiting)} lost\n"
        f"large responses: {load.large_done}, lines of events: {load.events}\n"
        f"wrong: {len(load.wrong)}\n{measures.told()}"
    )


def faults(load: Load, measures: Measures, files_before: object, files_after: object) -> list[str]:
    """Return what did not hold."""
    found = [f"lost: {len(load.waiting)} jobs, by state {dict(load.left)}"] if load.waiting else []
    found += load.wrong[:5]
    if not load.done or not load.events or (load.large and not load.large_done):
        found.append("nothing was done")
    if files_before != files_after:
        found.append(f"left behind: {files_after}")
    return found + measures.faults()


def main() -> int:
    asked = _asked()
    install = required(next(iter(installs()), None))
    receiver = f"http://127.0.0.1:{free_port()}"
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="load-")))
        env = {"HTTP_TRUSTED_ORIGINS": receiver, "RESULT_TTL_S": str(asked.result_ttl)}
        server = stack.enter_context(ComfyServer(install, base, env))
        server.wait_until_ready()
        url = f"{server.url}/api/stateless"
        load = Load(url, asked.jobs, asked.streams, asked.large, hook=receiver)
        assert server.process is not None
        before = server.files()
        with measured(url, server.process.pid) as measures:
            asyncio.run(load.run(asked.seconds))
        time.sleep(2)
        found = faults(load, measures, before, server.files())
    sys.stdout.write(told(load, measures))
    if asked.plot:
        asked.plot.write_text(drawn(measures))
    sys.stdout.write("".join(f"FAULT: {line}\n" for line in found) or "all of it held\n")
    return 1 if found else 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600, help="of load (600; a soak: 3600)")
    parser.add_argument("--jobs", type=int, default=1000, help="that are queued (1000)")
    parser.add_argument("--streams", type=int, default=200, help="of events that are open (200)")
    parser.add_argument("--large", type=int, default=50, help="responses at once (50)")
    parser.add_argument("--result-ttl", type=int, default=30, help="RESULT_TTL_S (30)")
    parser.add_argument("--plot", type=Path, help="an SVG file for memory, open files, probe")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
