"""Running a ComfyUI in the foreground, in place of this process."""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from docker.homes import Prepared
from docker.steps import SetupError

PR_SET_PDEATHSIG = 1
# Said to make and to this set-up; to ComfyUI and the extension they would be noise.
OURS = {"ARGS", "COMFY_HOME", "COMFY_PYTHON", "LISTEN", "PORT", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"}

# Run in ComfyUI's Python. A torch for CPUs is known by its version file, without the seconds
# that importing it takes.
SEES_GPU = """
import runpy, sys
from importlib.util import find_spec
from pathlib import Path

build = runpy.run_path(str(Path(find_spec("torch").origin).with_name("version.py")))
if sys.platform == "linux" and not any(build.get(name) for name in ("cuda", "hip", "xpu")):
    sys.exit(1)
import torch

devices = (torch.cuda, torch.backends.mps, getattr(torch, "xpu", torch.cuda))
sys.exit(not any(device.is_available() for device in devices))
"""


def check_port(listen: str, port: int) -> None:
    """Raise SetupError when the port cannot be listened on, as when something does already."""
    host = listen.split(",")[0]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name == "posix":
            # As ComfyUI's server does: connections of an earlier one may linger on the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            reason = f"port {port} of {host} cannot be used: {exc.strerror}"
            raise SetupError(f"{reason}. Choose another: PORT=…") from exc


def serve(prepared: Prepared, options: argparse.Namespace) -> None:
    """Become ComfyUI's process: it gets this one's environment (without OURS), folder, signals."""
    if options.exit_with_parent:
        _exit_with_parent()
    main = prepared.home / "main.py"
    command = [str(prepared.python), str(main), "--port", str(options.port)]
    command += ["--listen", options.listen]
    if not _sees_gpu(prepared.python):
        command.append("--cpu")
    command += options.arguments
    print(
        f"  starting ComfyUI {prepared.version}: {' '.join(command)}", file=sys.stderr, flush=True
    )
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    if os.name == "posix":
        os.execve(command[0], command, environment)  # noqa: S606
    # Windows has no exec: a new process, with this one waiting for it.
    sys.exit(subprocess.call(command, env=environment))


def launch(prepared: Prepared, checkout: Path, arguments: Sequence[str]) -> None:
    """Become the launcher, which reads this process's environment for itself."""
    command = [str(prepared.python), "-m", "comfyui_stateless"]
    command += ["--comfy-home", str(prepared.home)]
    if not os.environ.get("CMD"):
        device = [] if _sees_gpu(prepared.python) else ["--cpu"]
        command += ["--", *device, *arguments]
    environment = {k: v for k, v in os.environ.items() if k == "PORT" or k not in OURS}
    os.chdir(checkout)
    os.execve(command[0], command, environment)  # noqa: S606


def _sees_gpu(python: Path) -> bool:
    check = subprocess.run([python, "-c", SEES_GPU], capture_output=True, check=False)
    return check.returncode == 0


def _exit_with_parent() -> None:
    """Have this process, and ComfyUI which it becomes, end when the parent wants it or is gone."""
    # A shell that starts the parent in the background has it, and so us, ignore this signal.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit("the process that wanted this server is gone")
