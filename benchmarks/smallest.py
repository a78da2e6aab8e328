"""The smallest graph: how many a second, and what a request costs beside the execution."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from statistics import median

from .bench import Bench
from .bursts import Burst
from .checks import check_exact
from .graphs import smallest
from .rows import Row, compared
from .sides import WrongAnswer
from .spread import Spread

WARM_UP = 40


def measure(bench: Bench) -> list[Row]:
    """Measure the smallest graph with one client and with eight."""
    tasks = smallest()
    sides = bench.sides
    for side in sides:
        bench.burst(side, list(islice(tasks, WARM_UP)), 8)
    rows = []
    for clients, requests in ((1, bench.plan.requests // 2), (8, bench.plan.requests)):
        bursts: list[list[Burst]] = [[] for _ in sides]
        above: list[list[float]] = [[] for _ in sides]
        for _ in range(bench.plan.rounds):
            for number, side in enumerate(sides):
                asked = list(islice(tasks, requests))
                result = bench.burst(side, asked, clients)
                check_exact(asked, result)
                bursts[number].append(result)
                above[number].append(above_execution_ms(result, bench.clocks().executions))
        rows += _rates(clients, *bursts)
        if clients == 1:
            rows.append(_above(*map(Spread.of, above)))
    return rows


def above_execution_ms(burst: Burst, executions: Sequence[float]) -> float:
    """Return the median of what requests took beside their own execution, in milliseconds.

    With one client the n-th request is the n-th execution; with several the figure means nothing.
    """
    if len(executions) != len(burst.latencies):
        raise WrongAnswer(f"{len(burst.latencies)} requests were executed {len(executions)} times.")
    pairs = zip(burst.latencies, executions, strict=True)
    return median((latency - execution) * 1000 for latency, execution in pairs)


def _rates(
    clients: int,
    ours: Sequence[Burst],
    plain: Sequence[Burst],
    beside: Sequence[Burst] = (),
) -> list[Row]:
    label = f"smallest graph, {clients} client{'s' if clients > 1 else ''}"
    cpu = ", ".join(
        f"{name} {median(b.client_cpu / b.seconds for b in bursts):.0%}"
        for name, bursts in (("ours", ours), ("plain", plain), ("beside", beside))
        if bursts
    )
    return [
        compared(
            f"smallest.{clients}.rate", label, "1/s",
            Spread.of(b.rate for b in ours), Spread.of(b.rate for b in plain),
            f"the client itself took of a core: {cpu}",
            Spread.of(b.rate for b in beside) if beside else None,
        ),
        compared(
            f"smallest.{clients}.latency", f"{label}: latency", "ms",
            Spread.of(b.latency_ms for b in ours), Spread.of(b.latency_ms for b in plain),
            beside=Spread.of(b.latency_ms for b in beside) if beside else None,
        ),
    ]  # fmt: skip


def _above(ours: Spread, plain: Spread, beside: Spread | None = None) -> Row:
    label = "smallest graph, 1 client: above the execution"
    return compared("smallest.1.above", label, "ms", ours, plain, beside=beside)
