"""A file of 1 GiB in the response: how much the server's memory grows while it is streamed."""

from __future__ import annotations

import asyncio
import json
import secrets
import zlib
from base64 import b64decode
from dataclasses import dataclass, field
from pathlib import Path

from .bench import Bench
from .graphs import Graph, node
from .rows import Row
from .sides import WrongAnswer, session
from .spread import Spread

MIB = 2**20
CHUNK = 256 * 1024
FIRST = b'"images":["'
ROUNDS = 3
WARM_UP_MIB = 8
PEAK_RESET = "5"
"""Written to ``clear_refs`` it sets VmHWM to what is resident now: proc(5)."""


def measure(bench: Bench) -> list[Row]:
    """Measure the growth of resident memory; Linux tells the peak, other systems do not."""
    if not Path("/proc/self/clear_refs").exists():
        return []
    # The first file has what is imported when it is first needed.
    grown_mib(bench, WARM_UP_MIB)
    mib = bench.plan.large_mib
    growth = Spread.of(grown_mib(bench, mib) for _ in range(min(ROUNDS, bench.plan.rounds)))
    label = f"{mib} MiB file as base64: growth of memory"
    note = "" if mib == 1024 else "the budget is for 1024 MiB"
    return [Row("memory.growth", label, "MiB", growth, note=note)]


def grown_mib(bench: Bench, mib: int) -> float:
    """Have a file made and streamed, check every byte, and return the growth in MiB."""
    bench.clear()
    noise = secrets.token_bytes(1024)
    process = Path(f"/proc/{bench.pid}")
    (process / "clear_refs").write_text(PEAK_RESET)
    before = status_kib(process, "VmRSS")
    asyncio.run(_fetch(bench.server.url, noise, mib))
    growth = (status_kib(process, "VmHWM") - before) / 1024
    bench.require_no_files()
    return growth


def status_kib(process: Path, name: str) -> int:
    """Return a figure of a process's ``status``, in KiB."""
    for line in (process / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise KeyError(name)


def large(noise: bytes, mib: int) -> Graph:
    """Return a graph whose output is a file of so many MiB."""
    inputs = {"mib": mib, "noise": noise.hex(), "filename_prefix": "large"}
    return {"1": node("BenchmarkLargeFile", **inputs)}


def checksum(noise: bytes, mib: int) -> int:
    """Return the CRC-32 of the file that the node writes."""
    block = noise * (MIB // len(noise))
    crc = 0
    for number in range(mib):
        crc = zlib.crc32(block[8:], zlib.crc32(number.to_bytes(8, "big"), crc))
    return crc


@dataclass
class Received:
    """Takes a response apart as it comes, and keeps nothing of the file."""

    crc: int = 0
    size: int = 0
    _in_file: bool = False
    _rest: bytearray = field(default_factory=bytearray)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        self._rest += chunk
        if not self._in_file and not self.size and FIRST in self._rest:
            del self._rest[: self._rest.index(FIRST) + len(FIRST)]
            self._in_file = True
        if self._in_file:
            end = self._rest.find(b'"')
            self._decode(end if end >= 0 else len(self._rest) // 4 * 4)
            self._in_file = end < 0

    def _decode(self, length: int) -> None:
        part = b64decode(self._rest[:length], validate=True)
        self.crc, self.size = zlib.crc32(part, self.crc), self.size + len(part)
        del self._rest[:length]

    @property
    def announced(self) -> int:
        """The size that the end of the body says of the file."""
        document = json.loads(b"{" + self._rest[self._rest.index(b"]") + 2 :])
        return int(document["outputs"][0]["size_bytes"])


async def _fetch(url: str, noise: bytes, mib: int) -> None:
    received, body = Received(), {"prompt": large(noise, mib)}
    async with session(url) as http, http.post("/api/stateless/prompt", json=body) as response:
        if response.status != 200:
            raise WrongAnswer((await response.text())[:500])
        async for chunk in response.content.iter_chunked(CHUNK):
            received.feed(chunk)
    if received.crc != checksum(noise, mib) or not received.size == received.announced == mib * MIB:
        raise WrongAnswer(f"A file of {mib} MiB came back as other {received.size} bytes.")
