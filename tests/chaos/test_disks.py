"""A disk is full for a while: that of the cache, of ComfyUI's folders, of the journal."""

from __future__ import annotations

import time

import pytest

from tests.chaos.arena import DISKS_MIB, Arena
from tests.chaos.checker import Checker, until_none
from tests.chaos.disks import full
from tests.chaos.traffic import Traffic

FULL_S = 3.0
A_PAGE = 6000
"""Bytes: there is room for something, so that it goes wrong in the middle."""

ERRORS = {
    "cache": {"folder_failed", "no_space"},
    "input": {"folder_failed", "no_space"},
    "output": {"execution_error", "no_space"},
    "temp": {"execution_error", "no_space"},
    "state": {"no_space", "storage_error"},
}


def test_a_start_on_a_full_disk_of_the_journal_is_told_and_loses_nothing(
    arena: Arena, traffic: Traffic, checker: Checker
) -> None:
    with traffic.flowing():
        time.sleep(1.5)
        arena.server.stop()
    state = arena.folder("state")
    with full(state):
        arena.server.start()
        until_none(lambda: [] if is_decided(arena) else ["starting"], 30)
        ready = arena.server.get("/api/stateless/ready")
        assert ready.status == 200 or str(state) in ready.json["reason"]
        assert arena.server.get("/system_stats").status == 200
        arena.server.stop()
    checker.require(traffic, {"crashed", "unavailable"})


def is_decided(arena: Arena) -> bool:
    """Say whether the server is ready, or says that it cannot get so."""
    state = arena.server.get("/api/stateless/status").json
    return state["phase"] in ("ready", "failed")


@pytest.mark.parametrize("name", list(DISKS_MIB))
def test_a_disk_is_full_for_a_while(
    arena: Arena, traffic: Traffic, checker: Checker, name: str
) -> None:
    with traffic.flowing():
        time.sleep(0.5)
        for left_bytes in (0, A_PAGE):
            with full(arena.folder(name), left_bytes):
                time.sleep(FULL_S)
        time.sleep(0.5)
    assert len(traffic.sent) > 10
    checker.require(traffic, ERRORS[name])
