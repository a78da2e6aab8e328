from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.launcher import watch
from comfyui_stateless.launcher.backoff import Backoff
from comfyui_stateless.launcher.child import Command
from comfyui_stateless.launcher.health import Answer, Health
from comfyui_stateless.launcher.life import Life, Phase
from comfyui_stateless.launcher.supervisor import Supervisor
from comfyui_stateless.launcher.watch import Rules
from tests.launcher.running import LIMIT_S, PRETEND, environment, is_alive
from tests.ports import free_port

RULES = Rules(("127.0.0.1", 0), 0.05, 400, 1.0, 5.0, is_restarted=True, margin_s=0.2)


class Counted(Health):
    """Knows how often it has asked."""

    asked = 0

    async def ask(self, within_s: float) -> Answer | None:
        self.asked += 1
        return await super().ask(within_s)


class Watched:
    """A supervisor over a pretended ComfyUI."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.life = Life()
        self.output: list[str] = []

    def start(self, rules: Rules = RULES, **asked: Any) -> None:
        port = free_port()
        rules = replace(rules, address=("127.0.0.1", port))
        self.health = Counted(f"http://127.0.0.1:{port}")
        variables = {
            "PRETEND": json.dumps({"folder": str(self.folder), **asked}),
            "DIRECT_ADDRESS": "127.0.0.1",
            "COMFYUI_PORT_HOST": str(port),
        }
        command = Command(
            [sys.executable, str(PRETEND)], {**environment(self.folder), **variables}, self.folder
        )
        self.supervisor = Supervisor(
            command, rules, self.health, self.life, self.output.append, self.folder,
            Backoff(first_s=0.01, most_s=0.05),
        )  # fmt: skip
        self.running = asyncio.ensure_future(self.supervisor.run())

    async def stop(self) -> int:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        return await self.supervisor.drain(asyncio.Event())

    async def close(self) -> None:
        at_once = asyncio.Event()
        at_once.set()
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        await self.supervisor.drain(at_once)
        await self.health.close()

    @property
    def pids(self) -> list[int]:
        file = self.folder / "pids"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    async def until(self, is_so: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not is_so():
            assert time.monotonic() < deadline, f"{what}: {self.life}, {self.output[-5:]}"
            await asyncio.sleep(0.01)

    async def until_gone(self) -> None:
        # Killed processes take a moment to be gone.
        await self.until(lambda: not any(map(is_alive, self.pids)), "gone")

    async def until_warm(self, starts: int = 1) -> None:
        await self.until(lambda: len(self.pids) == starts and self.life.warm, "warm")
        await self.until(lambda: self.life.phase is Phase.UP, "up")


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    watched = Watched(tmp_path)
    yield watched
    await watched.close()
    await watched.until_gone()


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def test_it_stands_twenty_kills_in_a_row(watched: Watched) -> None:
    watched.start()
    before = open_files()
    for starts in range(1, 21):
        await watched.until_warm(starts)
        os.kill(watched.pids[-1], signal.SIGKILL)
        await watched.until(lambda: watched.life.phase is not Phase.UP, "down")
    await watched.until_warm(21)
    assert [pid for pid in watched.pids if is_alive(pid)] == watched.pids[-1:]
    assert open_files() < before + 10


async def test_it_stands_kills_while_comfyui_starts(watched: Watched) -> None:
    watched.start(silent=True)
    for starts in range(1, 6):
        await watched.until(lambda n=starts: len(watched.pids) == n, "started")  # type: ignore[misc]
        os.kill(watched.pids[-1], signal.SIGKILL)
    await watched.until(lambda: len(watched.pids) == 6, "started")
    assert not watched.life.warm


async def test_it_says_where_comfyui_is_in_its_life(watched: Watched) -> None:
    (watched.folder / "state").write_text("warming")
    watched.start()
    await watched.until(lambda: watched.life.phase is Phase.STARTING, "starting")
    await watched.until(lambda: watched.life.phase is Phase.UP, "up")
    assert not watched.life.warm
    (watched.folder / "state").write_text("ready")
    await watched.until(lambda: watched.life.warm, "warm")
    assert await watched.stop() == 0
    assert watched.life.phase is Phase.DRAINING


async def test_what_does_not_drain_is_killed_with_all_of_its_group(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.start(replace(RULES, grace_s=0.2), deaf=True, forks=True)
    await watched.until(lambda: watched.life.warm, "warm")
    assert await watched.stop() == 137
    assert "has not ended within 0.4 s of SIGTERM" in caplog.text
    await watched.until_gone()


async def test_trouble_that_lasts_is_ended_by_a_restart(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.start(replace(RULES, hang_s=0.3))
    await watched.until_warm()
    (watched.folder / "state").write_text("trouble")
    await watched.until(lambda: "executed nothing" in caplog.text, "ended")
    (watched.folder / "state").write_text("ready")
    await watched.until_warm(2)
    assert "It is trouble." in caplog.text


async def test_a_queue_that_is_full_is_no_trouble(watched: Watched) -> None:
    watched.start(replace(RULES, hang_s=0.1))
    await watched.until_warm()
    (watched.folder / "state").write_text("full")
    asked = watched.health.asked
    await watched.until(lambda: watched.health.asked > asked + 20, "asked on")
    assert len(watched.pids) == 1


async def test_a_limit_of_zero_never_ends_a_silent_one(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "WATCH_S", 0.05)
    watched.start(replace(RULES, hang_s=0.0))
    await watched.until_warm()
    os.kill(watched.pids[0], signal.SIGSTOP)
    asked = watched.health.asked
    await watched.until(lambda: watched.health.asked > asked + 10, "asked on")
    assert is_alive(watched.pids[0])


async def test_a_port_taken_by_another_is_named_and_tried_again(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    watched.start(replace(RULES, hang_s=0.5))
    watched.supervisor._backoff = Backoff(first_s=1.0, most_s=1.0)  # time to take the port
    await watched.until_warm()
    os.kill(watched.pids[0], signal.SIGKILL)
    await watched.until(lambda: watched.life.phase is Phase.DOWN, "down")
    address = watched.supervisor._rules.address
    with socket.create_server(address, reuse_port=False):
        await watched.until(lambda: "cannot be used" in caplog.text, "noticed")
        assert f"port {address[1]} of 127.0.0.1" in caplog.text
    await watched.until_warm(2)


async def test_another_server_at_the_port_is_not_taken_for_ours(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    (watched.folder / "state").write_text("foreign")
    watched.start(replace(RULES, max_tries=40))
    assert await watched.running == 1
    assert "the stateless API is not in it" in caplog.text


async def test_a_pack_that_wants_a_login_is_told_from_an_api_that_is_off(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    (watched.folder / "state").write_text("login")
    watched.start(replace(RULES, max_tries=40))
    assert await watched.running == 1
    assert "demands a login (status 401)" in caplog.text
