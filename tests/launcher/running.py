"""The launcher as a process, over a ComfyUI that is only pretended."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.comfyui.server import CHECKOUT, Reply
from tests.ports import free_port

PRETEND = Path(__file__).with_name("pretend_comfyui.py")
LIMIT_S = 30.0


def environment(folder: Path) -> dict[str, str]:
    """Return what a process needs of ours, with folders of the test's own."""
    needed = {k: v for k, v in os.environ.items() if k in {"PATH", "LANG", "TMPDIR"}}
    return {**needed, "HOME": str(folder), "STATE_DIR": str(folder / "state")}


def until(is_so: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + limit_s
    while not is_so():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_s:g} s: {what}")
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that nobody has reaped yet does not."""
    stat = Path(f"/proc/{pid}/stat")
    with contextlib.suppress(OSError):
        if stat.parents[1].exists():
            return stat.read_text().rpartition(")")[2].split()[0] != "Z"
        os.kill(pid, 0)
        return True
    return False


L = TypeVar("L", bound="Launched")


@dataclass
class Launched:
    """A launcher process; use it as a context manager."""

    folder: Path
    asked: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    log_to: int | None = None
    python: str = sys.executable

    def __post_init__(self) -> None:
        self.port, self.behind = free_port(), free_port()
        (self.folder / "home" / "custom_nodes").mkdir(parents=True, exist_ok=True)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @property
    def pids(self) -> list[int]:
        """All processes that ComfyUI has been, and that it had started; those of a container not."""
        file = self.folder / "pids"
        if self.before:
            return []
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def __enter__(self: L) -> L:
        own = {
            "CMD": shlex.join([sys.executable, str(PRETEND)]),
            "COMFY_HOME": str(self.folder / "home"),
            "COMFYUI_PORT_HOST": str(self.behind),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "PRETEND": json.dumps({"folder": str(self.folder), **self.asked}),
            "STARTUP_CHECK_INTERVAL_S": "0.1",
            "STARTUP_CHECK_MAX_TRIES": "200",
        }
        command = [*self.before, self.python, "-m", "comfyui_stateless", *self.arguments]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=CHECKOUT, env={**environment(self.folder), **own, **self.settings},
                stdin=subprocess.DEVNULL, stdout=self.log_to or log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        until(lambda: not any(map(is_alive, self.pids)), f"nothing left: {self.pids}\n{self.log}")

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self, within_s: float = LIMIT_S) -> int:
        """Wait until the launcher has ended; return its exit code."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the launcher has not ended:\n{self.log}") from None

    def until_ready(self, limit_s: float = LIMIT_S) -> None:
        until(lambda: self.status("/ready") == 200, "ready", limit_s)

    def status(self, path: str) -> int | None:
        """Return the status of an answer, None where there is none."""
        with contextlib.suppress(OSError):
            return self.request(path).status
        return None

    def request(self, path: str, body: bytes | None = None) -> Reply:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body)
        try:
            with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
                return Reply(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, dict(error.headers), error.read())

    def say(self, state: str) -> None:
        """Have the pretended ComfyUI tell a state from now on."""
        partial = self.folder / "state.new"
        partial.write_text(state)
        partial.rename(self.folder / "state")
