"""Faults in short, one after the other under load; ``make chaos`` injects each for longer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.arena import DISKS_MIB, Arena
from tests.chaos.arena import arena as arena_of
from tests.chaos.checker import Checker, no_process_is_left
from tests.chaos.disks import full
from tests.chaos.memory import SIDE, limited
from tests.chaos.traffic import Traffic
from tests.comfyui.graphs import Graph, failing, node, saved
from tests.comfyui.server import ComfyServer, Install

DAY_S = 24 * 3600
EACH_S = 1.0
ERRORS = {
    "crashed", "delivery_failed", "execution_error", "invalid_input", "no_space", "storage_error",
    "folder_failed", "out_of_descriptors", "unavailable",
}  # fmt: skip


@pytest.fixture
def arena(install: Install, tmp_path: Path) -> Iterator[Arena]:
    if os.geteuid():
        pytest.skip("disks that can be full are mounted, which root may do")
    with arena_of(install, tmp_path, seed=9) as arena:
        arena.up()
        yield arena
    no_process_is_left(tmp_path)


def test_every_invariant_holds_over_faults_of_every_kind(arena: Arena) -> None:
    checker, traffic = Checker(arena), Traffic(arena)
    with traffic.flowing():
        for name in DISKS_MIB:
            with full(arena.folder(name)):
                time.sleep(EACH_S)
        for seconds in (DAY_S, -DAY_S, 0):
            arena.clock.jump(seconds)
            time.sleep(EACH_S / 2)
        kinds = ("drop", "stall")
        with arena.files_net.of(*kinds), arena.hooks_net.of(*kinds), arena.uploads_net.of(*kinds):
            time.sleep(EACH_S)
        assert arena.server.prompt(failing("SystemExit", "stop")).json["code"] == "worker_died"
        arena.server.stop()
        arena.up()
        time.sleep(EACH_S)
    assert len(traffic.accepted) > 10
    checker.require(traffic, ERRORS)


def test_a_node_for_which_the_system_has_no_memory_fails_alone(comfy: ComfyServer) -> None:
    assert comfy.process is not None
    huge: Graph = {
        "1": node("EmptyImage", width=SIDE, height=SIDE, batch_size=1, color=1),
        "9": node("SaveImage", images=["1", 0], filename_prefix="never"),
    }
    with limited(comfy.process.pid):
        reply = comfy.prompt(huge)
        assert (reply.status, reply.json["code"]) == (500, "out_of_memory")
        assert comfy.prompt(saved(1)).status == 200
    assert comfy.get("/api/stateless/ready").status == 200
