"""Memory runs out in a node: as a GPU says it, and as the system does."""

from __future__ import annotations

import time

from tests.chaos.arena import Arena
from tests.chaos.checker import Checker
from tests.chaos.memory import SIDE, limited
from tests.chaos.traffic import Traffic
from tests.comfyui.graphs import failing, node

TIMES = 6


def test_a_gpu_is_out_of_memory_under_load(
    arena: Arena, traffic: Traffic, checker: Checker
) -> None:
    with traffic.flowing():
        for number in range(TIMES):
            reply = arena.server.prompt(failing("OutOfMemoryError", f"Allocation {number}"))
            assert (reply.status, reply.json["code"]) == (500, "out_of_memory")
    checker.require(traffic, set())


def test_a_process_is_out_of_memory_under_load(
    arena: Arena, traffic: Traffic, checker: Checker
) -> None:
    huge = node("EmptyImage", width=SIDE, height=SIDE, batch_size=1, color=1)
    save = node("SaveImage", images=["1", 0], filename_prefix="never")
    assert arena.server.process is not None
    with traffic.flowing(), limited(arena.server.process.pid):
        for _ in range(TIMES):
            reply = arena.server.prompt({"1": huge, "9": save})
            assert (reply.status, reply.json["code"]) == (500, "out_of_memory"), reply.json
            time.sleep(0.2)
    checker.require(traffic, set())
    arena.server.stop()  # it may take the limit for its own
