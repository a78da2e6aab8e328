"""Open streams of events, in a process of their own: who reads them takes nothing of the client.

    python -m benchmarks.listeners URL COUNT PATH...

opens so many streams, each of the paths in turn, writes ``open`` to standard output once all have
begun, and reads them for ever.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from .sides import UNLIMITED, WrongAnswer

OPEN = "open"
ALL = "/api/stateless/events"


def path_of(job_id: str) -> str:
    """Return the path of the stream of one job."""
    return f"/api/stateless/prompt/{job_id}/events"


@contextmanager
def listening(url: str, count: int, *paths: str) -> Iterator[None]:
    """Keep streams open for the block.

    Raises:
        WrongAnswer: They did not begin, or ended before the block did.
    """
    command = [sys.executable, "-m", "benchmarks.listeners", url, str(count), *paths]
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline().strip() != OPEN:
                raise WrongAnswer(f"{count} streams of {paths} did not begin.")
            yield
            if process.poll() is not None:
                raise WrongAnswer(f"A stream of {paths} ended early.")
        finally:
            process.kill()


async def listen(url: str, count: int, paths: Sequence[str]) -> None:
    """Open the streams and read them; return when one of them ends."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector, timeout=UNLIMITED) as http:
        asked = (http.get(paths[number % len(paths)]) for number in range(count))
        streams = await asyncio.gather(*asked)
        for stream in streams:
            stream.raise_for_status()
            await stream.content.readany()
        print(OPEN, flush=True)
        reading = [asyncio.ensure_future(_read(stream)) for stream in streams]
        await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)


async def _read(stream: aiohttp.ClientResponse) -> None:
    async for _ in stream.content.iter_any():
        pass


if __name__ == "__main__":
    asyncio.run(listen(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
