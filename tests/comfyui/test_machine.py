"""Requests of all kinds in any order: each job's result is its own, and nothing stays behind.

``STATELESS_TEST_FUZZ`` is how many times as many there are as in the suite, and new ones then.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.stateful import run_state_machine_as_test

from tests.cache.origin import Origin
from tests.comfyui.machine import Machine, World
from tests.comfyui.receiver import SECRET, Receiver
from tests.comfyui.server import ComfyServer, Install
from tests.comfyui.test_random_graphs import NEVER_LOGGED, our_tracebacks
from tests.fuzz.harnesses.folder import FOLDER

TIMES = int(os.environ.get("STATELESS_TEST_FUZZ", "1"))
FILES_OF_NOISE = 20


@pytest.fixture
def world(
    install: Install, receiver: Receiver, origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    base = tmp_path_factory.mktemp("machine")
    env = {
        "ALLOW_PUBLISH": "true",
        "HTTP_TRUSTED_ORIGINS": f"{origin.url('')},{receiver.origin}",
        "WEBHOOK_SECRET": SECRET,
        "WORKFLOW_DIR": str(base / "workflows"),
    }
    with ComfyServer(install, base, env) as server:
        server.wait_until_ready()
        yield World(server, receiver, origin)


def test_whatever_clients_do_each_gets_its_own_and_nothing_stays_behind(world: World) -> None:
    open_files = _open_files(world.server)
    chosen = settings(
        max_examples=3 * TIMES,
        stateful_step_count=12 if TIMES == 1 else 30,
        deadline=None,
        database=None if TIMES == 1 else DirectoryBasedExampleDatabase(FOLDER / "hypothesis"),
        derandomize=TIMES == 1,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(cast("type[Machine]", lambda: Machine(world)), settings=chosen)
    assert our_tracebacks(world.server.log) == []
    assert [words for words in NEVER_LOGGED if words in world.server.log] == []
    assert _open_files(world.server) <= open_files + FILES_OF_NOISE


def _open_files(server: ComfyServer) -> int:
    assert server.process is not None
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
