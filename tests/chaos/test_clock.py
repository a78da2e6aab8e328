"""The clock on the wall jumps, forwards and backwards, while jobs run and messages are due."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.chaos.arena import Arena
from tests.chaos.checker import Checker
from tests.chaos.traffic import Traffic
from tests.comfyui.graphs import counted
from tests.comfyui.server import Reply

DAY_S = 24 * 3600
YEAR_S = 365 * DAY_S
JUMPS_S = (DAY_S, -DAY_S, 3600, -7, 30 * DAY_S, -30 * DAY_S, 0)
EPOCHS_S = (10 * YEAR_S, -10 * YEAR_S, 70 * YEAR_S, 0)
"""The last but one beyond the clocks of 32 bits."""


@pytest.mark.parametrize("jumps_s", [JUMPS_S, EPOCHS_S], ids=["days", "years"])
def test_the_clock_jumps_under_load(
    arena: Arena,
    traffic: Traffic,
    checker: Checker,
    chance: random.Random,
    jumps_s: tuple[float, ...],
) -> None:
    arena.receiver.refuses = lambda: chance.random() < 0.1
    try:
        with traffic.flowing():
            for seconds in jumps_s:
                time.sleep(chance.uniform(0.5, 1.5))
                arena.clock.jump(seconds)
    finally:
        arena.receiver.refuses = lambda: False
        arena.clock.jump(0)
    checker.require(traffic, set())


def test_a_process_that_is_killed_comes_back_with_its_clock_a_month_behind(
    arena: Arena, traffic: Traffic, checker: Checker
) -> None:
    try:
        with traffic.flowing():
            time.sleep(1.5)
            arena.server.stop()
            arena.clock.jump(-30 * DAY_S)
            arena.up()
            time.sleep(1.0)
        checker.nothing_is_lost(traffic)
    finally:
        arena.clock.jump(0)
    checker.require(traffic, {"crashed", "unavailable"})


def test_a_key_still_keeps_a_job_from_running_twice_with_the_clock_set_back_and_forth(
    arena: Arena, traffic: Traffic, checker: Checker, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"

    def sent() -> Reply:
        body = {"prompt": counted(runs, "once")}
        return arena.server.post("/api/stateless/prompt", body, idempotency_key="a key")

    try:
        first = sent()
        for seconds in (-10 * YEAR_S, -30 * DAY_S, 0, 60):
            arena.clock.jump(seconds)
            again = sent()
            assert (again.status, again.json["id"]) == (first.status, first.json["id"])
            assert again.json["images"] == first.json["images"]
    finally:
        arena.clock.jump(0)
    assert runs.read_text().split() == ["once"]
    checker.require(traffic, set())
