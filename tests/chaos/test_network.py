"""A network that drops, stalls, corrupts and reorders, and storage that answers badly."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from tests.chaos.arena import Arena
from tests.chaos.checker import Checker
from tests.chaos.traffic import FETCHED, HOOK, MADE, READ, SYNC, SYNC_UPLOADED, UPLOADED, Traffic

BAD_S = 8.0
FETCHING = ((FETCHED, SYNC), (FETCHED, HOOK), (FETCHED, UPLOADED), (READ, SYNC))
TELLING = ((MADE, HOOK), (READ, HOOK), (MADE, UPLOADED))
UPLOADING = ((MADE, UPLOADED), (FETCHED, UPLOADED), (MADE, SYNC_UPLOADED))
NOT_FETCHED = {"invalid_input"}
NOT_UPLOADED = {"delivery_failed"}


@pytest.mark.parametrize(
    "kinds", [("drop", "stall"), ("corrupt", "reorder")], ids=["breaks", "lies"]
)
def test_the_way_to_what_is_fetched_is_bad(
    arena: Arena, traffic: Traffic, checker: Checker, kinds: tuple[str, ...]
) -> None:
    traffic.kinds = FETCHING
    with traffic.flowing(), arena.files_net.of(*kinds):
        time.sleep(BAD_S)
    checker.require(traffic, NOT_FETCHED)


@pytest.mark.parametrize(
    "kinds", [("drop", "stall"), ("corrupt", "reorder")], ids=["breaks", "lies"]
)
def test_the_way_to_receivers_of_webhooks_is_bad(
    arena: Arena, traffic: Traffic, checker: Checker, kinds: tuple[str, ...]
) -> None:
    traffic.kinds = TELLING
    with traffic.flowing(), arena.hooks_net.of(*kinds):
        time.sleep(BAD_S)
    checker.require(traffic, set())


@pytest.mark.parametrize(
    "kinds", [("drop", "stall"), ("corrupt", "reorder")], ids=["breaks", "lies"]
)
def test_the_way_to_the_storage_of_outputs_is_bad(
    arena: Arena, traffic: Traffic, checker: Checker, kinds: tuple[str, ...]
) -> None:
    traffic.kinds = UPLOADING
    with traffic.flowing(), arena.uploads_net.of(*kinds):
        time.sleep(BAD_S)
    checker.require(traffic, NOT_UPLOADED, hit_uploads="corrupt" in kinds)


def test_the_storage_of_inputs_answers_badly(
    arena: Arena, traffic: Traffic, checker: Checker, chance: random.Random
) -> None:
    def faults() -> dict[str, Any]:
        status = chance.choice((403, 429, 500, 0, 0))
        if status:
            return {"failures": [(status, {"Retry-After": "1"})] * chance.randrange(1, 4)}
        return {"cut_every": 1500, "ranges": chance.random() < 0.5}

    traffic.kinds, traffic.faults = FETCHING, faults
    with traffic.flowing():
        time.sleep(BAD_S)
    checker.require(traffic, NOT_FETCHED)


def test_the_storage_of_outputs_answers_badly(
    arena: Arena, traffic: Traffic, checker: Checker, chance: random.Random
) -> None:
    traffic.kinds = UPLOADING
    arena.receiver.refused_with = lambda: chance.choice((403, 429, 500, None, None, None))
    try:
        with traffic.flowing():
            time.sleep(BAD_S)
    finally:
        arena.receiver.refused_with = lambda: None
    checker.require(traffic, NOT_UPLOADED)
