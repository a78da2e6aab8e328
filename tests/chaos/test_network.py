"""A network that drops, stalls, corrupts and reorders, and storage that answers badly."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.chaos.arena import Arena
from tests.chaos.checker import Checker
from tests.chaos.traffic import FETCHED, HOOK, MADE, READ, SYNC, SYNC_UPLOADED, UPLOADED, Traffic
from tests.chaos.weather import Weather

BAD_S = 8.0
MIN_HITS = 5
FETCHING = ((FETCHED, SYNC), (FETCHED, HOOK), (FETCHED, UPLOADED), (READ, SYNC))
TELLING = ((MADE, HOOK), (READ, HOOK), (MADE, UPLOADED))
UPLOADING = ((MADE, UPLOADED), (FETCHED, UPLOADED), (MADE, SYNC_UPLOADED))
NOT_FETCHED = {"invalid_input"}
NOT_UPLOADED = {"delivery_failed"}


@contextmanager
def hit(network: Weather, traffic: Traffic, kinds: tuple[str, ...]) -> Iterator[None]:
    """Have a network be bad while traffic flows, for the block."""
    before = network.hits
    with traffic.flowing(), network.of(*kinds):
        yield
    assert network.hits - before > MIN_HITS


@pytest.mark.parametrize(
    "kinds", [("drop", "stall"), ("corrupt", "reorder")], ids=["breaks", "lies"]
)
def test_the_way_to_what_is_fetched_is_bad(
    arena: Arena, traffic: Traffic, checker: Checker, kinds: tuple[str, ...]
) -> None:
    traffic.kinds = FETCHING
    with hit(arena.files_net, traffic, kinds):
        time.sleep(BAD_S)
    checker.require(traffic, NOT_FETCHED)


@pytest.mark.parametrize(
    "kinds", [("drop", "stall"), ("corrupt", "reorder")], ids=["breaks", "lies"]
)
def test_the_way_to_receivers_of_webhooks_is_bad(
    arena: Arena, traffic: Traffic, checker: Checker, kinds: tuple[str, ...]
) -> None:
    traffic.kinds = TELLING
    with hit(arena.hooks_net, traffic, kinds):
        time.sleep(BAD_S)
    checker.require(traffic, set())


@pytest.mark.parametrize(
    "kinds", [("drop", "stall"), ("corrupt", "reorder")], ids=["breaks", "lies"]
)
def test_the_way_to_the_storage_of_outputs_is_bad(
    arena: Arena, traffic: Traffic, checker: Checker, kinds: tuple[str, ...]
) -> None:
    traffic.kinds = UPLOADING
    with hit(arena.uploads_net, traffic, kinds):
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
    failed = [m for m in arena.receiver.messages if m.body["type"] == "prompt.failed"]
    assert {m.body["code"] for m in failed} >= NOT_UPLOADED
    checker.require(traffic, NOT_UPLOADED)
