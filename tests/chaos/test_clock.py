"""The clock on the wall jumps, forwards and backwards, while jobs run and messages are due."""

from __future__ import annotations

import random
import time

from tests.chaos.arena import Arena
from tests.chaos.checker import Checker
from tests.chaos.traffic import Traffic

DAY_S = 24 * 3600
JUMPS_S = (DAY_S, -DAY_S, 3600, -7, 30 * DAY_S, -30 * DAY_S, 0)


def test_the_clock_jumps_under_load(
    arena: Arena, traffic: Traffic, checker: Checker, chance: random.Random
) -> None:
    arena.receiver.refuses = lambda: chance.random() < 0.1
    try:
        with traffic.flowing():
            for seconds in JUMPS_S:
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
