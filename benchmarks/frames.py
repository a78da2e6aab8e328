"""A batch of 500 frames in one response: how much the server's memory grows.

The frames are one picture over and over, in a tensor that holds it once: so the growth is ours, not
the batch's. The thread that runs nodes makes frames faster than they can be encoded, and has to wait.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from .bench import Bench
from .graphs import Graph, node, write_photos
from .memory import CHUNK, FIRST, PEAK_RESET, ROUNDS, status_kib
from .rows import Row
from .sides import WrongAnswer, session
from .spread import Spread

WARM_UP = 4
PNG = b"iVBOR"
"""How each PNG begins in base64; the graph has ``images`` too."""


def measure(bench: Bench) -> list[Row]:
    """Measure the growth of resident memory; Linux tells the peak, other systems do not."""
    if not Path("/proc/self/clear_refs").exists():
        return []
    name = write_photos(bench.input)[0]
    grown_mib(bench, name, WARM_UP)
    frames = bench.plan.frames
    # The worst counts: what a process keeps of what it has freed hides later growth.
    growth = Spread.of([max(grown_mib(bench, name, frames) for _ in range(ROUNDS))])
    label = f"{frames} frames of 1024² in one response: growth of memory"
    note = "" if frames == 500 else "the budget is for 500 frames"
    return [Row("memory.frames", label, "MiB", growth, note=note)]


def grown_mib(bench: Bench, name: str, frames: int) -> float:
    """Have frames saved and streamed, compare all of them, and return the growth in MiB."""
    bench.clear()
    process = Path(f"/proc/{bench.pid}")
    (process / "clear_refs").write_text(PEAK_RESET)
    before = status_kib(process, "VmRSS")
    found = asyncio.run(_fetch(bench.server.url, batch(name, frames)))
    growth = (status_kib(process, "VmHWM") - before) / 1024
    if found != frames:
        raise WrongAnswer(f"{found} of {frames} frames came back.")
    bench.require_no_files()
    return growth


def batch(name: str, frames: int) -> Graph:
    """Return a graph that saves a picture so many times."""
    return {
        "1": node("LoadImage", image=name),
        "2": node("BenchmarkRepeats", image=["1", 0], times=frames),
        "9": node("SaveImage", images=["2", 0], filename_prefix="frames"),
    }


class Frames:
    """Takes a response apart as it comes; compares each image with the first, which it keeps."""

    def __init__(self) -> None:
        self.count = 0
        self.first = b""
        self._rest = bytearray()
        self._has_begun = False
        self._is_over = False

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        self._rest += chunk
        self._has_begun = self._has_begun or self._begin()
        while self._has_begun and not self._is_over and (end := self._rest.find(b'"')) >= 0:
            if len(self._rest) < end + 3:
                return  # what follows an image tells whether it was the last
            self._image(bytes(self._rest[:end]))
            self._is_over = self._rest[end + 1 : end + 2] != b","
            del self._rest[: end + 3]

    def _begin(self) -> bool:
        found = self._rest.find(FIRST + PNG)
        if found >= 0:
            del self._rest[: found + len(FIRST)]
        return found >= 0

    def _image(self, image: bytes) -> None:
        self.first = self.first or image
        if image != self.first:
            raise WrongAnswer(f"Frame {self.count} is another than the first.")
        self.count += 1


async def _fetch(url: str, graph: Graph) -> int:
    frames, body = Frames(), {"prompt": graph}
    async with session(url) as http, http.post("/api/stateless/prompt", json=body) as response:
        if response.status != 200:
            raise WrongAnswer((await response.text())[:500])
        async for chunk in response.content.iter_chunked(CHUNK):
            frames.feed(chunk)
    return frames.count
