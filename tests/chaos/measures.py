"""What a process needs over time: memory, open files, and how quick its probe answers."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

import aiohttp

EVERY_S = 0.1
SETTLED = 0.4
"""The share of the time after which caches are full, and memory is to be flat."""

MAX_GROWTH = 0.10
"""Of the memory, between the quarters that follow."""

MIB_OF_NOISE = 64
FILES_OF_NOISE = 100
OWN = Path("/proc/self")
READY_MS = 500
"""Far above what it takes: the machine may be anyone's."""

Points = list[tuple[float, float]]


@dataclass
class Measures:
    """Values by the seconds at which they were measured: MiB, open files, milliseconds.

    Attributes:
        stood: How much of the time of ``ready`` the server's loop and the probe were ready to run
            and had no core: what other work on the machine takes, and no mend of ours gives back.
    """

    memory: Points = field(default_factory=list)
    files: Points = field(default_factory=list)
    ready: Points = field(default_factory=list)
    stood: Points = field(default_factory=list)

    @property
    def ready_with_a_core(self) -> list[float]:
        """The milliseconds of ``ready`` less those that were spent on standing, in order."""
        pairs = zip(self.ready, self.stood, strict=True)
        return sorted(max(0.0, ready - stood) for (_, ready), (_, stood) in pairs)

    def told(self) -> str:
        """Return the figures, a line each."""
        ready = sorted(value for _, value in self.ready)
        memory = [value for _, value in self.memory]
        files = [value for _, value in self.files]
        slopes = slope(settled(self.memory)), slope(settled(self.files))
        return (
            f"/ready: p50 {share(ready, 0.5):.0f} ms, p99 {share(ready, 0.99):.0f} ms, "
            f"max {ready[-1]:.0f} ms, {len(ready)} times\n"
            f"the same less waits for a core: p99 {share(self.ready_with_a_core, 0.99):.0f} ms, "
            f"max {self.ready_with_a_core[-1]:.0f} ms\n"
            f"memory: {memory[0]:.0f} MiB at first, {max(memory):.0f} at most, {memory[-1]:.0f} "
            f"at last; {slopes[0] * 60:+.2f} MiB a minute once settled\n"
            f"open files: {files[0]:.0f} at first, {max(files):.0f} at most, {files[-1]:.0f} "
            f"at last; {slopes[1] * 60:+.2f} a minute once settled\n"
        )

    def faults(self) -> list[str]:
        """Return what is not flat, or not quick."""
        found = []
        if (p99 := share(sorted(value for _, value in self.ready), 0.99)) > READY_MS:
            found.append(f"/ready took {p99:.0f} ms (p99)")
        early, late = halves(settled(self.memory))
        if late > early * (1 + MAX_GROWTH) + MIB_OF_NOISE:
            found.append(f"memory grew from {early:.0f} to {late:.0f} MiB")
        if self.files[-1][1] > self.files[0][1] + FILES_OF_NOISE:
            found.append(f"open files: {self.files[0][1]:.0f} became {self.files[-1][1]:.0f}")
        return found


@contextmanager
def measured(url: str, pid: int) -> Iterator[Measures]:
    """Measure a process for the block, from a process of its own: this one may be busy itself.

    Args:
        url: Of the API.

    Yields:
        What is filled when the block is left.

    Raises:
        RuntimeError: It could not be measured to the end.
    """
    measures, command = Measures(), [sys.executable, "-m", __name__, url, str(pid)]
    with TemporaryFile("w+") as file, subprocess.Popen(command, stdout=file) as sampler:
        try:
            yield measures
        finally:
            sampler.terminate()
        if sampler.wait() != -signal.SIGTERM:
            raise RuntimeError("What measures the server has failed.")
        file.seek(0)
        for line in file:
            at, memory, files, ready, stood = json.loads(line)
            measures.memory.append((at, memory))
            measures.files.append((at, files))
            measures.ready.append((at, ready))
            measures.stood.append((at, stood))


async def sample(url: str, process: Path) -> None:
    """Print what is measured, a line each time, for ever."""
    began = time.monotonic()
    async with aiohttp.ClientSession() as client:
        while True:
            stood = standing_ms(process) + standing_ms(OWN)
            asked = time.monotonic()
            async with client.get(f"{url}/ready") as response:
                await response.read()
            at = time.monotonic()
            stood = standing_ms(process) + standing_ms(OWN) - stood
            files = len(list((process / "fd").iterdir()))
            values = at - began, resident_mib(process), files, (at - asked) * 1000, stood
            sys.stdout.write(json.dumps(values) + "\n")
            sys.stdout.flush()
            await asyncio.sleep(EVERY_S)


def standing_ms(process: Path) -> float:
    """Return for how long the first thread of a process was ready to run and had no core.

    That is the thread of the event loop. See the kernel's Documentation/scheduler/sched-stats.rst.
    """
    return int((process / "schedstat").read_text().split()[1]) / 1e6


def resident_mib(process: Path) -> float:
    """Return the memory of a process that is not swapped out."""
    status = (process / "status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def settled(points: Points) -> Points:
    """Return what was measured once caches were full."""
    return points[int(len(points) * SETTLED) :]


def slope(points: Points) -> float:
    """Return by how much values grow in a second, by least squares."""
    if len(points) < 2:
        return 0.0
    middle = sum(at for at, _ in points) / len(points)
    mean = sum(value for _, value in points) / len(points)
    spread = sum((at - middle) ** 2 for at, _ in points)
    return sum((at - middle) * (value - mean) for at, value in points) / spread


def halves(points: Points) -> tuple[float, float]:
    """Return the mean of the first and of the second half."""
    half = max(1, len(points) // 2)
    first, second = points[:half], points[half:] or points
    return _mean(first), _mean(second)


def share(ordered: Sequence[float], part: float) -> float:
    """Return the value below which a part of all ordered values lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def _mean(points: Points) -> float:
    return sum(value for _, value in points) / len(points)


if __name__ == "__main__":
    asyncio.run(sample(sys.argv[1], Path(f"/proc/{sys.argv[2]}")))
