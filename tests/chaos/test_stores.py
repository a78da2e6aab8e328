"""The way to a real object storage is bad, or the storage answers badly, both ways at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.chaos.arena import Arena
from tests.chaos.arena import arena as arena_of
from tests.chaos.checker import Checker, no_process_is_left
from tests.chaos.conftest import SEED
from tests.chaos.stores import S3, Azure, Store, Stored, azure, s3
from tests.chaos.traffic import FETCHED, HOOK, MADE, SYNC, SYNC_UPLOADED, UPLOADED
from tests.comfyui.server import Install

BAD_S = 8.0
MIN_HITS = 5
KINDS = (
    (FETCHED, SYNC), (FETCHED, HOOK), (FETCHED, UPLOADED),
    (MADE, UPLOADED), (MADE, SYNC_UPLOADED),
)  # fmt: skip
ERRORS = {"invalid_input", "delivery_failed"}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Store]]:
    with ExitStack() as stack:
        first: S3 = stack.enter_context(s3(tmp_path_factory.mktemp("s3"), SEED))
        second: Azure = stack.enter_context(azure(tmp_path_factory.mktemp("azure"), SEED))
        yield {"s3": first, "azure": second}


@pytest.fixture(scope="module")
def running(
    install: Install, stores: dict[str, Store], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Arena]:
    base = tmp_path_factory.mktemp("stores")
    settings = {name: value for s in stores.values() for name, value in s.settings.items()}
    with arena_of(install, base, SEED, settings) as arena:
        yield arena
    no_process_is_left(base)


BREAKS, REFUSES, LIES = ("drop", "stall"), ("refuse", "halve"), ("corrupt", "reorder")


@pytest.mark.parametrize("kinds", [BREAKS, REFUSES, LIES], ids=["breaks", "refuses", "lies"])
@pytest.mark.parametrize("name", ["s3", "azure"])
def test_the_way_to_an_object_storage_is_bad(
    arena: Arena, stores: dict[str, Store], checker: Checker, name: str, kinds: tuple[str, ...]
) -> None:
    store = stores[name]
    traffic = Stored(arena, kinds=KINDS, store=store)
    before = store.net.hits
    with traffic.flowing(), store.net.of(*kinds):
        time.sleep(BAD_S)
    assert store.net.hits - before > MIN_HITS
    checker.require(traffic, ERRORS)
    again = Stored(arena, kinds=KINDS, store=store)
    with again.flowing():
        time.sleep(1.0)
    checker.require(again, set())
