"""Fault injection: a suite of its own, run by ``make chaos``.

``STATELESS_TEST_SEED`` repeats a run as far as chance allows; the seed stands in the report.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.arena import Arena
from tests.chaos.arena import arena as arena_of
from tests.chaos.checker import Checker, no_process_is_left
from tests.chaos.traffic import Traffic
from tests.comfyui.conftest import installs, required
from tests.comfyui.server import Install

SEED = int(os.environ.get("STATELESS_TEST_SEED", random.randrange(10**6)))


def pytest_report_header() -> str:
    return f"STATELESS_TEST_SEED={SEED}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("chaos")


@pytest.fixture(scope="session")
def install() -> Install:
    return required(next(iter(installs()), None))


@pytest.fixture(scope="session")
def chance() -> random.Random:
    return random.Random(SEED)


@pytest.fixture(scope="session")
def running(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """The arena that all faults share; each leaves it well, or is to be found out."""
    print(f"STATELESS_TEST_SEED={SEED}")  # noqa: T201  it has to be in the report
    base = tmp_path_factory.mktemp("arena")
    with arena_of(install, base, SEED) as arena:
        yield arena
    no_process_is_left(base)


@pytest.fixture
def arena(running: Arena) -> Arena:
    running.up()
    return running


@pytest.fixture
def checker(arena: Arena) -> Checker:
    return Checker(arena)


@pytest.fixture
def traffic(arena: Arena) -> Traffic:
    return Traffic(arena)
