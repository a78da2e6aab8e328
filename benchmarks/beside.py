"""Another server with the same contract, in front of the ComfyUI that is measured.

It is a command that the benchmark starts and ends. The command reads the environment that such
servers share: where ComfyUI listens, where its folders lie, and the port to open; ``CMD`` is what
it would start ComfyUI by, which runs already.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.comfyui.server import ComfyServer
from tests.ports import free_port

from .sides import Beside

START_S = 120
POLL_S = 0.1


@contextmanager
def beside(command: str, comfyui: ComfyServer) -> Iterator[Beside]:
    """Run the command before a ComfyUI, and give the way to an image through it.

    Raises:
        RuntimeError: It ended, or was not ready in time.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="stateless-beside-") as folder:
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                shlex.split(command), cwd=folder, stdout=output, stderr=subprocess.STDOUT,
                env=environment(comfyui, port, Path(folder)), start_new_session=True,
            )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, process, log)
            yield Beside(url, comfyui.base / "input")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def environment(comfyui: ComfyServer, port: int, folder: Path) -> dict[str, str]:
    """Return what the command is told.

    Args:
        folder: Of its own, for what it writes.
    """
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "CMD": "sleep infinity",
        "COMFY_HOME": str(folder),
        "COMFYUI_PORT_HOST": str(comfyui.port),
        "DIRECT_ADDRESS": "127.0.0.1",
        "INPUT_DIR": str(comfyui.base / "input"),
        "OUTPUT_DIR": str(comfyui.base / "output"),
        "MODEL_DIR": str(comfyui.base / "models"),
        "WORKFLOW_DIR": str(folder / "workflows"),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "LOG_LEVEL": "error",
    }


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not _is_ready(url):
        if process.poll() is not None or time.monotonic() > deadline:
            told = log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"The server beside is not ready ({process.returncode}):\n{told}")
        time.sleep(POLL_S)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False
