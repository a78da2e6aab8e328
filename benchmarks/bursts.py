"""Bursts: so many requests by so many clients, timed, and checked once the clock has stopped."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from statistics import median

from .graphs import Task
from .sides import Fetch, Side


@dataclass(frozen=True)
class Burst:
    """What a burst gave; times in seconds.

    Attributes:
        latencies: By request, in the order in which they were sent.
        client_cpu: Of this process, which is the client, during the burst.
        images: The image files that came back, in the order of the tasks.
    """

    seconds: float
    latencies: tuple[float, ...]
    client_cpu: float
    images: tuple[bytes, ...]

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.latencies) / self.seconds

    @property
    def latency_ms(self) -> float:
        """The median, in milliseconds."""
        return median(self.latencies) * 1000


def burst(url: str, side: Side, tasks: Sequence[Task], clients: int) -> Burst:
    """Run every task, each of the clients taking the next one when it is done with the last.

    Raises:
        WrongAnswer: A request did not give one image.
    """
    return asyncio.run(_burst(url, side, tasks, clients))


async def _burst(url: str, side: Side, tasks: Sequence[Task], clients: int) -> Burst:
    bodies = [side.body(task.graph) for task in tasks]
    answers: list[bytes] = [b""] * len(tasks)
    latencies = [0.0] * len(tasks)
    numbers = iter(range(len(tasks)))

    async def client(fetch: Fetch) -> None:
        for number in numbers:
            began = time.perf_counter()
            answers[number] = await fetch(bodies[number])
            latencies[number] = time.perf_counter() - began

    async with AsyncExitStack() as stack:
        fetches = [await stack.enter_async_context(side.connect(url)) for _ in range(clients)]
        with _no_collection():
            cpu, began = time.process_time(), time.perf_counter()
            await asyncio.gather(*(client(fetch) for fetch in fetches))
            seconds, used = time.perf_counter() - began, time.process_time() - cpu
    images = tuple(side.image(answer) for answer in answers)
    return Burst(seconds, tuple(latencies), used, images)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the client's own garbage collector out of the measured time."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
