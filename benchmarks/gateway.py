"""The launcher's gateway: what it adds to a request, and how much memory many large answers take.

    python -m benchmarks.gateway upstream
    python -m benchmarks.gateway gateway UPSTREAM

are the two processes that are measured; each writes its port to standard output.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

import aiohttp
from aiohttp import web

from comfyui_stateless.launcher.gateway import Gateway, GatewayOptions
from comfyui_stateless.launcher.life import Life, Phase

from .bench import Plan
from .memory import PEAK_RESET, status_kib
from .rows import Row
from .sides import UNLIMITED, WrongAnswer
from .spread import Spread

HOST = "127.0.0.1"
REQUESTS = 300
TOGETHER = 100
LARGE_BYTES = 5_000_000
PIECE_BYTES = 50_000
UNREAD_S = 1.0
DIRECT = "/api/stateless/prompt"
THROUGH = "/prompt"
BODY = json.dumps(
    {"prompt": {str(i): {"class_type": "EmptyImage", "inputs": {"color": i}} for i in range(10)}}
).encode()


def measure(plan: Plan) -> list[Row]:
    """Run the gateway in a process of its own, between this one and a server that echoes."""
    with running("upstream") as (upstream, _):
        rows = [added(upstream, plan.rounds)]
        if Path("/proc/self/clear_refs").exists():
            growth = Spread.of(grown_mib(upstream) for _ in range(plan.rounds))
            label = f"{TOGETHER} answers of 5 MB at once: growth of memory"
            rows.append(Row("gateway.memory", label, "MiB", growth))
        return rows


def added(upstream: int, rounds: int) -> Row:
    """Return the row of what the gateway adds; a round before the first does not count."""
    with running("gateway", f"http://{HOST}:{upstream}") as (port, _):
        found = [latencies(upstream, port) for _ in range(1 + rounds)][1:]
    more = Spread.of(through - direct for direct, through in found)
    note = f"directly it takes {median(direct for direct, _ in found):.2f} ms"
    return Row("gateway.added", "a small POST through the gateway", "ms more", more, note=note)


def latencies(upstream: int, gateway: int) -> tuple[float, float]:
    """Return the median latency in milliseconds, directly and through the gateway, taking turns."""
    seconds: tuple[list[float], list[float]] = ([], [])
    ways = [(HTTPConnection(HOST, upstream), DIRECT), (HTTPConnection(HOST, gateway), THROUGH)]
    for _ in range(REQUESTS):
        for (connection, path), found in zip(ways, seconds, strict=True):
            began = time.perf_counter()
            connection.request("POST", path, BODY, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            body = answer.read()
            found.append(time.perf_counter() - began)
            if (answer.status, body) != (200, BODY):
                raise WrongAnswer(f"{path} answered {answer.status}: {body[:200]!r}")
    for connection, _ in ways:
        connection.close()
    direct, through = (1000 * median(found) for found in seconds)
    return direct, through


def grown_mib(upstream: int) -> float:
    """Return by how many MiB the memory of a fresh gateway grows under many large answers."""
    with running("gateway", f"http://{HOST}:{upstream}") as (port, pid):
        # The first has what is imported when it is first needed.
        asyncio.run(together(port, 1))
        process = Path(f"/proc/{pid}")
        (process / "clear_refs").write_text(PEAK_RESET)
        before = status_kib(process, "VmRSS")
        asyncio.run(together(port, TOGETHER))
        return (status_kib(process, "VmHWM") - before) / 1024


async def together(port: int, count: int) -> None:
    """Begin so many answers, let them wait until every buffer is full, and read them all."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=UNLIMITED) as http:
        url = f"http://{HOST}:{port}{THROUGH}"
        answers = await asyncio.gather(*(http.get(f"{url}/{number}") for number in range(count)))
        await asyncio.sleep(UNREAD_S)
        await asyncio.gather(*(check(answer, number) for number, answer in enumerate(answers)))


async def check(answer: aiohttp.ClientResponse, number: int) -> None:
    """Raise WrongAnswer unless an answer is the one with this number, whole."""
    crc = size = 0
    async for chunk in answer.content.iter_any():
        crc, size = zlib.crc32(chunk, crc), size + len(chunk)
    expected = zlib.crc32(piece(number) * (LARGE_BYTES // PIECE_BYTES))
    if (answer.status, size, crc) != (200, LARGE_BYTES, expected):
        raise WrongAnswer(f"Answer {number} came as {answer.status} with {size} other bytes.")


def piece(number: int) -> bytes:
    """Return what the large answer with this number repeats."""
    return f"{number:010}".encode() * (PIECE_BYTES // 10)


@contextmanager
def running(*arguments: str) -> Iterator[tuple[int, int]]:
    """Run a part in a process of its own; give its port and its process id."""
    command = [sys.executable, "-m", "benchmarks.gateway", *arguments]
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline()), process.pid
        finally:
            process.kill()


async def serve_upstream() -> None:
    """Serve what stands for ComfyUI: an echo, and large answers in pieces."""

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read(), content_type="application/json")

    async def large(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        content = piece(int(request.match_info["number"]))
        for _ in range(LARGE_BYTES // PIECE_BYTES):
            await response.write(content)
        return response

    app = web.Application()
    app.add_routes([web.post(DIRECT, echo), web.get(f"{DIRECT}/{{number}}", large)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, backlog=1024).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


async def serve_gateway(upstream: str) -> None:
    """Serve the gateway in front of ``upstream``."""
    life = Life(warm=True)
    life.enter(Phase.UP)
    gateway = Gateway(GatewayOptions(host=HOST, port=0, upstream=upstream), life)
    await gateway.start()
    print(gateway.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve_upstream() if sys.argv[1] == "upstream" else serve_gateway(sys.argv[2]))
