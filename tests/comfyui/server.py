"""A real ComfyUI process for the tests, with folders of its own."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.ports import free_port

CHECKOUT = Path(__file__).parents[2]
PACK = Path(__file__).parent / "pack"
START_S = 180


@dataclass(frozen=True)
class Install:
    """A ComfyUI that is there: its version, its folder and the Python that runs it."""

    version: str
    home: Path
    python: Path

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split(".")[:3])


@dataclass(frozen=True)
class Reply:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def images(self) -> list[bytes]:
        return [base64.b64decode(image) for image in self.json["images"]]


def _heed_interrupts() -> None:
    """Undo what a shell does to what it starts in the background: children inherit it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass
class ComfyServer:
    """A ComfyUI process; use it as a context manager."""

    install: Install
    base: Path
    env: Mapping[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    packs: Mapping[str, Path] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.base / "comfyui.log").read_text(errors="replace")

    def __enter__(self) -> ComfyServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process, and wait until ComfyUI answers."""
        self.launch()
        self._wait()

    def launch(self) -> None:
        """Start the process."""
        self._lay_out()
        self.port = free_port()
        command = [
            str(self.install.python), "main.py", "--cpu", "--listen", "127.0.0.1",
            "--port", str(self.port), "--base-directory", str(self.base),
            "--database-url", "sqlite:///:memory:", "--disable-api-nodes", "--disable-auto-launch",
            *self.args,
        ]  # fmt: skip
        inherited = {k: v for k, v in os.environ.items() if k in {"PATH", "HOME", "LANG", "TMPDIR"}}
        own = {"STATE_DIR": str(self.base / "state"), "CACHE_DIR": str(self.base / "cache")}
        _heed_interrupts()
        with (self.base / "comfyui.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.install.home, env={**inherited, **own, **self.env},
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def stop(self) -> None:
        """Kill the process."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to ComfyUI's process alone."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def ended(self, within_s: float) -> int:
        """Wait until the process has ended by itself; return its exit code."""
        assert self.process is not None
        return self.process.wait(within_s)

    def _lay_out(self) -> None:
        for name in ("custom_nodes", "input", "output", "temp", "user", "models"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        packs = {"comfyui-stateless": CHECKOUT, "test-pack": PACK, **self.packs}
        websocket = self.install.home / "custom_nodes" / "websocket_image_save.py"
        if websocket.exists():
            packs[websocket.name] = websocket
        for name, source in packs.items():
            link = self.base / "custom_nodes" / name
            if not link.exists():
                link.symlink_to(source)

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(
                    f"ComfyUI ended with {self.process.returncode}:\n{self.log[-4000:]}"
                )
            with contextlib.suppress(OSError):
                if self.get("/system_stats").status == 200:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"ComfyUI did not start:\n{self.log[-4000:]}")

    def wait_until_ready(self, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while self.get("/api/stateless/ready").status != 200:
            if time.monotonic() > deadline:
                raise RuntimeError(self.get("/api/stateless/ready").body.decode())
            time.sleep(0.05)

    def get(self, path: str, **headers: str) -> Reply:
        return self.request("GET", path, None, headers)

    def post(self, path: str, body: Any, timeout: float = 120, **headers: str) -> Reply:
        return self.request("POST", path, body, headers, timeout)

    def prompt(self, graph: Any, timeout: float = 120, accept: str = "*/*", **fields: Any) -> Reply:
        body = {"prompt": graph, **fields}
        return self.request("POST", "/api/stateless/prompt", body, {"Accept": accept}, timeout)

    def post_form(self, request: Any, timeout: float = 120, **files: bytes) -> Reply:
        """Post a prompt's request as a form, with files by the names of their parts."""
        parts = {"request": json.dumps(request).encode(), **files}
        body = b"".join(
            b'--edge\r\nContent-Disposition: form-data; name="%b"; filename="%b"\r\n\r\n%b\r\n'
            % (name.encode(), name.encode(), content)
            for name, content in parts.items()
        )
        headers = {"Content-Type": "multipart/form-data; boundary=edge"}
        path = "/api/stateless/prompt"
        return self.request("POST", path, body + b"--edge--\r\n", headers, timeout)

    def request(
        self, method: str, path: str, body: Any, headers: Mapping[str, str], timeout: float = 30
    ) -> Reply:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path,
            data,
            {
                "Content-Type": "application/json",
                **{k.replace("_", "-"): v for k, v in headers.items()},
            },
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return Reply(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, dict(error.headers), error.read())

    def plain(self, graph: Any, extra_data: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run a graph through ComfyUI's own route; return its history entry."""
        body = {"prompt": graph, "extra_data": extra_data or {}, "client_id": "tests"}
        reply = self.post("/prompt", body)
        assert reply.status == 200, reply.body
        prompt_id = reply.json["prompt_id"]
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            history = self.get(f"/history/{prompt_id}").json
            if prompt_id in history:
                return dict(history[prompt_id])
            time.sleep(0.02)
        raise RuntimeError("the prompt did not end")

    def files(self) -> dict[str, list[str]]:
        """Return what lies in ComfyUI's folders."""
        return {
            name: sorted(
                path.relative_to(self.base / name).as_posix() for path in _below(self.base / name)
            )
            for name in ("input", "output", "temp", "models")
        }


def _below(folder: Path) -> list[Path]:
    """Return all that lies below a folder, also while a job's own folder in it is removed."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            return list(folder.rglob("*"))
