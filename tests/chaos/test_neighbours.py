"""Two ComfyUIs have all of their folders in common, and one of them is killed again and again."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from tests.chaos.arena import Arena
from tests.chaos.checker import Checker
from tests.chaos.traffic import Traffic
from tests.comfyui.server import ComfyServer

KILLS = 2


@pytest.fixture
def neighbour(arena: Arena) -> Iterator[Arena]:
    """A second ComfyUI, with the folders and the surroundings of the first."""
    first = arena.server
    with ComfyServer(first.install, first.base, first.env) as second:
        beside = replace(arena, server=second)
        beside.up()
        yield beside


def test_one_of_two_with_the_same_folders_is_killed_again_and_again(
    arena: Arena, neighbour: Arena, traffic: Traffic, checker: Checker, chance: random.Random
) -> None:
    beside = Traffic(neighbour)
    with ExitStack() as stack:
        for each in (traffic, beside):
            stack.enter_context(each.flowing(3))
        for _ in range(KILLS):
            time.sleep(chance.uniform(1.0, 2.0))
            neighbour.server.stop()
            neighbour.up()
        time.sleep(1.0)
    Checker(neighbour).nothing_is_lost(beside)
    checker.require(traffic, set())
    checker.require(beside, {"crashed", "unavailable"})
    neighbour.server.stop()
    checker.nothing_is_left()
