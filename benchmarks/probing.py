"""How long ``/ready`` takes, asked from a process of its own: a busy client would ask, and read, late.

    python -m benchmarks.probing URL

writes ``open`` to standard output once it has an answer, asks at a fixed beat until a line comes on
standard input, and writes the milliseconds that each answer took, as a list in JSON.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from .sides import UNLIMITED, WrongAnswer

OPEN = "open"
INTERVAL_S = 0.005


@contextmanager
def probing(url: str) -> Iterator[list[float]]:
    """Ask for the block.

    Yields:
        What is filled with milliseconds when the block is left.

    Raises:
        WrongAnswer: The server gave no answer.
    """
    waits: list[float] = []
    command = [sys.executable, "-m", "benchmarks.probing", url]
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline().strip() != OPEN:
                raise WrongAnswer("/ready did not answer.")
            yield waits
            process.stdin.write("\n")
            process.stdin.flush()
            waits += json.loads(process.stdout.readline() or "[]")
        finally:
            process.kill()
    if not waits:
        raise WrongAnswer("/ready stopped answering.")


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


async def probe(url: str) -> None:
    """Ask until a line comes on standard input; write what came out."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector, timeout=UNLIMITED) as http:
        await probed(http, lambda sent: sent == 0)
        print(OPEN, flush=True)
        told = asyncio.ensure_future(asyncio.to_thread(sys.stdin.readline))
        print(json.dumps(await probed(http, lambda sent: sent == 0 or not told.done())), flush=True)


if __name__ == "__main__":
    asyncio.run(probe(sys.argv[1]))
