from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from comfyui_stateless.api.admission import FEW, Admission
from comfyui_stateless.engine import Graph
from comfyui_stateless.readiness import Phase
from tests.api.conftest import Serve, Site
from tests.fakes import FakeEngine, Gate, eventually

MANY = 60


class Reads(FakeEngine):
    """Takes 2 ms for each graph, and notes in which round of the event loop it did so."""

    def __init__(self) -> None:
        self.gate = Gate()
        super().__init__(self.gate)
        self.reads: list[int] = []
        self.round = 0

    async def count_rounds(self) -> None:
        while True:
            self.round += 1
            await asyncio.sleep(0)

    def check_classes(self, graph: Graph, extra_data: Mapping[str, Any]) -> None:
        self.reads.append(self.round)
        time.sleep(0.002)
        super().check_classes(graph, extra_data)


async def answered(site: Site, number: int) -> int:
    async with site.prompt(id=str(number)) as response:
        return int(response.status)


async def test_many_graphs_that_come_at_once_leave_the_loop_time_for_other_work(
    serve: Serve,
) -> None:
    site = await serve(engine := Reads())
    counting = asyncio.create_task(engine.count_rounds())
    posts = [asyncio.create_task(answered(site, number)) for number in range(MANY)]
    await eventually(lambda: len(engine.reads) == MANY)
    counting.cancel()
    in_one_round = Counter(engine.reads[FEW + 1 :])
    assert max(in_one_round.values()) <= 2
    engine.gate.is_open.set()
    assert await asyncio.gather(*posts) == [200] * MANY


async def test_what_waits_to_be_let_in_is_refused_when_the_server_begins_to_shut_down(
    serve: Serve,
) -> None:
    site = await serve(engine := Reads())
    posts = [asyncio.create_task(answered(site, number)) for number in range(MANY)]
    await eventually(lambda: len(engine.reads) > FEW)
    site.services.readiness.enter(Phase.DRAINING)
    read = len(engine.reads)
    engine.gate.is_open.set()
    statuses = Counter(await asyncio.gather(*posts))
    assert statuses[503] == MANY - len(engine.reads)
    assert len(engine.reads) - read <= 2


async def test_who_comes_first_is_let_in_first_also_where_others_leave() -> None:
    admission, let_in = Admission(lambda: FEW), list[int]()

    async def come(number: int) -> None:
        if not admission.is_open():
            await admission.wait()
        let_in.append(number)

    coming = [asyncio.create_task(come(number)) for number in range(MANY)]
    await asyncio.sleep(0)
    for number in (3, 4, 50):
        coming[number].cancel()
    late = asyncio.create_task(come(MANY))
    await asyncio.wait({*coming, late})
    assert let_in == [n for n in range(MANY + 1) if n not in (3, 4, 50)]
    assert admission.is_open()


async def test_the_quicker_graphs_are_read_the_more_are_let_in_at_once() -> None:
    clock = 0.0
    admission = Admission(lambda: FEW, lambda: clock)
    rounds: list[int] = []
    now = 0

    async def come(takes_s: float) -> None:
        nonlocal clock
        if not admission.is_open():
            await admission.wait()
        rounds.append(now)
        clock += takes_s

    for takes_s, most in ((0.0001, 16), (0.001, 4), (0.003, 1), (0.02, 1)):
        rounds.clear()
        coming = [asyncio.create_task(come(takes_s)) for _ in range(MANY)]
        while not all(task.done() for task in coming):
            now += 1
            await asyncio.sleep(0)
        assert max(Counter(rounds).values()) == most


async def test_nobody_waits_where_few_jobs_live() -> None:
    admission = Admission(lambda: FEW - 1)
    assert all(admission.is_open() for _ in range(MANY))
