"""The launcher over a real ComfyUI: what it serves, and what it stands."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.comfyui.conftest import required
from tests.comfyui.graphs import Graph, counted, failing, saved
from tests.comfyui.server import CHECKOUT, PACK, Install, Reply
from tests.launcher.running import Launched, is_alive, until

START_S = 120.0
ON = {"ALWAYS_RESTART_COMFYUI": "true", "COMFYUI_HANG_S": "10"}


class LaunchedComfyUI(Launched):
    """The launcher, with ComfyUI's folders in a folder of the test's own."""

    def __init__(self, install: Install, folder: Path, **settings: str) -> None:
        base = folder / "base"
        for name in ("custom_nodes", "input", "output", "temp", "user", "models"):
            (base / name).mkdir(parents=True, exist_ok=True)
        (base / "custom_nodes" / "comfyui-stateless").symlink_to(CHECKOUT)
        (base / "custom_nodes" / "test-pack").symlink_to(PACK)
        super().__init__(
            folder,
            settings={
                "CMD": "",
                "COMFY_HOME": str(install.home),
                "STARTUP_CHECK_MAX_TRIES": "600",
                "CACHE_DIR": str(folder / "cache"),
                **settings,
            },
            arguments=(
                "--", "--cpu", "--base-directory", str(base), "--disable-api-nodes",
                "--database-url", "sqlite:///:memory:",
            ),
            python=str(install.python),
        )  # fmt: skip

    @property
    def pids(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"is starting, as process (\d+)", self.log)]

    def prompt(self, graph: Graph, **fields: object) -> Reply:
        return self.request("/prompt", json.dumps({"prompt": graph, **fields}).encode())

    def until_started(self, starts: int) -> None:
        until(lambda: len(self.pids) == starts, f"{starts} starts", START_S)


@pytest.fixture(scope="module")
def launched(
    install: Install, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LaunchedComfyUI]:
    """A launcher that starts its ComfyUI again and again."""
    with LaunchedComfyUI(install, tmp_path_factory.mktemp("launched"), **ON) as launched:
        yield launched


@pytest.fixture
def up(launched: LaunchedComfyUI) -> LaunchedComfyUI:
    launched.until_ready(START_S)
    return launched


def works(launched: LaunchedComfyUI) -> None:
    launched.until_ready(START_S)
    reply = launched.prompt(saved(prefix="picture"), id="it")
    assert (reply.status, reply.json["filenames"]) == (200, ["it_picture_00001_.png"])
    assert launched.status("/health") == 200


def test_the_api_is_at_the_root_of_its_port(up: LaunchedComfyUI) -> None:
    works(up)
    assert up.status("/docs") == 200
    assert up.status("/system_stats") == 404


def test_a_comfyui_that_is_killed_is_started_again(up: LaunchedComfyUI) -> None:
    starts, pid = len(up.pids), up.pids[-1]
    os.kill(pid, signal.SIGKILL)
    up.until_started(starts + 1)
    assert not is_alive(pid)
    works(up)


def test_a_comfyui_that_is_killed_while_it_starts_is_started_again(up: LaunchedComfyUI) -> None:
    starts = len(up.pids)
    for kills in range(3):
        os.kill(up.pids[-1], signal.SIGKILL)
        up.until_started(starts + kills + 1)
    works(up)


def test_a_comfyui_that_hangs_is_started_again(up: LaunchedComfyUI) -> None:
    starts, pid = len(up.pids), up.pids[-1]
    os.kill(pid, signal.SIGSTOP)
    up.until_started(starts + 1)
    assert not is_alive(pid)
    works(up)


def test_a_request_that_is_cut_off_by_a_kill_is_told(up: LaunchedComfyUI, tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        reply = pool.submit(up.prompt, counted(tmp_path / "runs", "x", seconds=60))
        until((tmp_path / "runs").exists, "running")
        os.kill(up.pids[-1], signal.SIGKILL)
        assert reply.result().status == 502
        assert set(reply.result().json) >= {"error", "code", "details"}
    works(up)


def test_sigterm_lets_a_job_end_and_leaves_nothing(
    each_install: Install | None, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    with (
        LaunchedComfyUI(required(each_install), tmp_path) as launched,
        ThreadPoolExecutor() as pool,
    ):
        launched.until_ready(START_S)
        reply = pool.submit(launched.prompt, counted(runs, "x", seconds=2))
        until(runs.exists, "running")
        launched.tell(signal.SIGTERM)
        assert reply.result().status == 200
        assert launched.ended() == 0
        assert not is_alive(launched.pids[0])


def test_a_kill_while_it_drains_ends_the_launcher(install: Install, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with LaunchedComfyUI(install, tmp_path, **ON) as launched, ThreadPoolExecutor() as pool:
        launched.until_ready(START_S)
        reply = pool.submit(launched.prompt, counted(runs, "x", seconds=60))
        until(runs.exists, "running")
        launched.tell(signal.SIGTERM)
        until(lambda: "Draining" in launched.log, "draining")
        os.kill(launched.pids[0], signal.SIGKILL)
        assert reply.result().status == 502
        assert launched.ended() == 137


def test_comfyui_does_not_outlive_a_launcher_that_is_killed(
    install: Install, tmp_path: Path
) -> None:
    with LaunchedComfyUI(install, tmp_path) as launched:
        launched.until_ready(START_S)
        launched.process.kill()
        launched.process.wait()
        until(lambda: not is_alive(launched.pids[0]), "nothing left", 5)


def test_a_warm_up_that_fails_ends_the_launcher_with_the_reason(
    install: Install, tmp_path: Path
) -> None:
    file = tmp_path / "warm-up.json"
    file.write_text(json.dumps(failing("ValueError", "too cold")))
    with LaunchedComfyUI(install, tmp_path, **ON, WARMUP_PROMPT_FILE=str(file)) as launched:
        assert launched.ended(START_S) == 1
        assert "The stateless API cannot work: " in launched.log
        assert "too cold" in launched.log.partition("The stateless API cannot work: ")[2]
