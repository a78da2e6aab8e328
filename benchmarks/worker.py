"""What the thread that runs nodes spends on saving."""

from __future__ import annotations

from itertools import cycle, islice
from statistics import median

from .bench import Bench, Clocks
from .pictures import CLIENTS, SLOWER, pictures
from .rows import Row, compared
from .sides import Ours, Plain, Side, WrongAnswer
from .spread import Spread

SAVERS = {"ours": "StatelessSaveImage", "plain": "SaveImage"}


def measure(bench: Bench) -> list[Row]:
    """Measure the savers, and the end of prompts, with one client and with eight."""
    tasks, _ = pictures(bench)
    rows = []
    for clients in (1, CLIENTS):
        clocks: dict[str, list[Clocks]] = {"ours": [], "plain": []}
        sides: tuple[Side, Side] = (Ours(), Plain())
        for _ in range(bench.plan.rounds):
            for side in sides:
                asked = list(islice(cycle(tasks), bench.plan.pictures // SLOWER))
                bench.burst(side, asked, clients)
                clocks[side.name].append(bench.clocks())
        rows += _rows(clients, clocks)
    return rows


def _rows(clients: int, clocks: dict[str, list[Clocks]]) -> list[Row]:
    crowd = "" if clients == 1 else f", {clients} clients"
    key = "" if clients == 1 else f".{clients}"
    saver, end = (
        {name: Spread.of(figure(c, name) for c in clocks[name]) for name in clocks}
        for figure in (saver_ms, settlement_ms)
    )
    waits = "" if clients == 1 else "waiting for a core and for the interpreter included"
    return [
        compared(
            f"worker.saver{key}", f"worker thread in the saver{crowd}, per megapixel", "ms",
            saver["ours"], saver["plain"], waits,
        ),
        compared(
            f"worker.end{key}", f"worker thread at a prompt's end{crowd}, per prompt", "ms",
            end["ours"], end["plain"], waits,
        ),
    ]  # fmt: skip


def saver_ms(clocks: Clocks, side: str) -> float:
    """Return the median of milliseconds per megapixel in the saver of a side."""
    times = [s / megapixels for name, s, megapixels in clocks.saves if name == SAVERS[side]]
    if len(times) != len(clocks.executions):
        raise WrongAnswer(f"{SAVERS[side]} saved {len(times)} of {len(clocks.executions)} images.")
    return median(times) * 1000


def settlement_ms(clocks: Clocks, _: str) -> float:
    """Return the median of milliseconds in the queue's ``task_done``."""
    return median(clocks.settlements) * 1000
