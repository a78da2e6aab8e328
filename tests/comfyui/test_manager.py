"""ComfyUI-Manager beside us: each does its work, and its reboot is one, with and without launcher."""

from __future__ import annotations

import contextlib
import http.client
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.comfyui.graphs import counted, saved
from tests.comfyui.receiver import SECRET, Receiver
from tests.comfyui.server import CHECKOUT, ComfyServer, Install
from tests.comfyui.test_launcher import START_S, LaunchedComfyUI, works
from tests.launcher.running import until

PACKAGES = CHECKOUT / ".comfyui" / "neighbours"
OFFLINE = "[default]\nnetwork_mode = offline\nfile_logging = false\n"


@dataclass(frozen=True)
class Manager:
    """How a ComfyUI is started with it."""

    install: Install

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("--enable-manager",) if self._is_known else ()

    @property
    def packs(self) -> dict[str, Path]:
        return {} if self._is_known else {"loads-it": Path(__file__).parent / "manager"}

    @property
    def _is_known(self) -> bool:
        flags = (self.install.home / "comfy" / "cli_args.py").read_text(encoding="utf-8")
        return "--enable-manager" in flags

    def lay_out(self, base: Path) -> None:
        """Keep it off the network."""
        folder = base / "user" / "__manager"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.ini").write_text(OFFLINE)
        (base / "custom_nodes").mkdir(exist_ok=True)
        for name, pack in self.packs.items():
            if not (base / "custom_nodes" / name).exists():
                (base / "custom_nodes" / name).symlink_to(pack)


@pytest.fixture(scope="module")
def manager(install: Install) -> Manager:
    if not (PACKAGES / "comfyui_manager").is_dir():
        pytest.fail("ComfyUI-Manager is not there; run the suite with `make test`")
    return Manager(install)


@pytest.fixture(scope="module")
def beside(
    manager: Manager, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    base = tmp_path_factory.mktemp("manager")
    manager.lay_out(base)
    env = {
        "PYTHONPATH": str(PACKAGES),
        "HTTP_TRUSTED_ORIGINS": receiver.origin,
        "WEBHOOK_SECRET": SECRET,
    }
    with ComfyServer(manager.install, base, env, manager.arguments) as server:
        server.wait_until_ready()
        yield server


def test_both_do_their_work(beside: ComfyServer) -> None:
    assert beside.get("/v2/manager/version").body.startswith(b"V4.2")
    assert beside.get("/v2/customnode/installed").status == 200
    reply = beside.prompt(saved(1), id="p")
    assert (reply.status, reply.json["filenames"]) == (200, ["p_picture_00001_.png"])
    assert "IMPORT FAILED" not in beside.log


def reboot(port: int) -> None:
    json = {"Content-Type": "application/json"}
    url = f"http://127.0.0.1:{port}/v2/manager/reboot"
    request = urllib.request.Request(url, b"{}", json)
    with contextlib.suppress(OSError, http.client.HTTPException):  # it ends within the answer
        urllib.request.urlopen(request, timeout=30).close()


def test_a_reboot_without_a_launcher_loses_nothing(
    beside: ComfyServer, receiver: Receiver, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    graph = counted(runs, "x", seconds=3)
    accepted = beside.prompt(graph, id="rebooted", webhook_v2=f"{receiver.origin}/hook")
    assert accepted.status == 202
    until(runs.exists, "running")
    reboot(beside.port)
    told = receiver.wait_for("rebooted", START_S)
    assert told.body["type"] == "prompt.complete"
    assert runs.read_text() == "x\nx\n"
    assert beside.process is not None
    assert beside.process.poll() is None  # the same process, with another program
    beside.wait_until_ready()
    assert beside.prompt(saved(2)).status == 200
    assert beside.files()["output"] == []


def test_a_reboot_under_the_launcher_is_no_crash(manager: Manager, tmp_path: Path) -> None:
    manager.lay_out(tmp_path / "base")
    env = {"PYTHONPATH": str(PACKAGES), "EXPOSE_COMFYUI": "true"}
    launched = LaunchedComfyUI(manager.install, tmp_path, **env)
    launched.arguments += manager.arguments
    with launched:
        launched.until_ready(START_S)
        for starts in (2, 3):
            reboot(launched.port)
            launched.until_started(starts)
            works(launched)
        assert launched.log.count("ComfyUI has ended for a reboot. It is started again.") == 2
        assert launched.process.poll() is None
