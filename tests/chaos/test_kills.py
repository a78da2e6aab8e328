"""ComfyUI dies at any moment, and its worker thread does."""

from __future__ import annotations

import random
import time

from tests.chaos.arena import Arena
from tests.chaos.checker import Checker
from tests.chaos.traffic import Traffic
from tests.comfyui.graphs import failing

KILLS = 3
DEATHS = 12


def test_comfyui_is_killed_again_and_again(
    arena: Arena, traffic: Traffic, checker: Checker, chance: random.Random
) -> None:
    with traffic.flowing():
        for _ in range(KILLS):
            time.sleep(chance.uniform(1.0, 3.0))
            arena.server.stop()
            arena.up()
        time.sleep(1.0)
    assert len(traffic.accepted) > 10
    checker.require(traffic, {"crashed", "unavailable"})


def test_the_worker_thread_dies_under_load(
    arena: Arena, traffic: Traffic, checker: Checker, chance: random.Random
) -> None:
    with traffic.flowing():
        for number in range(DEATHS):
            kind = ("SystemExit", "KeyboardInterrupt")[number % 2]
            reply = arena.server.prompt(failing(kind, f"death {number}"))
            assert (reply.status, reply.json["code"]) == (500, "worker_died")
            time.sleep(chance.uniform(0, 0.5))
    assert len(traffic.sent) > 20
    checker.require(traffic, set())
