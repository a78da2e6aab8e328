"""Installing torch, torchvision and torchaudio: the build for this machine's device."""

from __future__ import annotations

import shutil
import subprocess
import sys

from docker.environments import Environment
from docker.releases import reachable
from docker.steps import Console, SetupError

PACKAGES = ("torch", "torchvision", "torchaudio")
# What the package index has for this system, with or without a GPU; or a build without CUDA.
DEFAULT, CPU = "default", "cpu"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# Where the index of CPU builds is out of reach: releases that work together.
CPU_TORCH = "torch==2.13.0"
CPU_COMPANIONS = ("torchvision==0.28.0", "torchaudio==2.11.0")
# What these two import, and would bring themselves if they did not also bring a second torch.
CPU_IMPORTS = ("numpy", "pillow")

# The schemas under which torchvision's C++ registers them (csrc/ops/nms.cpp, quantized qnms).
OPERATORS = """\
# The compiled operators do not load beside this torch, and the import needs their schemas.
import torch.library

_schemas = torch.library.Library("torchvision", "FRAGMENT")
_schemas.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_schemas.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

"""


def wanted_build() -> str:
    """Return the build for this machine: CPU on Linux without an NVIDIA GPU, else DEFAULT."""
    return CPU if sys.platform == "linux" and not _has_nvidia_gpu() else DEFAULT


def install(target: Environment, build: str, console: Console) -> None:
    """Install the three packages in place of any that are there.

    Raises SetupError when torch itself cannot be imported afterwards.
    """
    if not _import_error(target, "torch"):
        console.run([target.python, "-m", "pip", "uninstall", "--yes", *PACKAGES])
    if build == DEFAULT:
        target.pip_install(console, PACKAGES)
    elif reachable(f"{CPU_INDEX}/torch/"):
        target.pip_install(console, ["--index-url", CPU_INDEX, *PACKAGES])
    else:
        target.pip_install(console, [CPU_TORCH, *CPU_IMPORTS])
        target.pip_install(console, ["--no-deps", *CPU_COMPANIONS])
    if error := _import_error(target, "torch"):
        raise SetupError(f"torch was installed and cannot be imported: {error}")
    if _is_cpu_only(target):
        _mend_torchvision(target)
        _mend_torchaudio(target)


def missing_parts(target: Environment) -> list[str]:
    """Return which of torchvision and torchaudio cannot be imported."""
    return [name for name in PACKAGES[1:] if _import_error(target, name)]


def _has_nvidia_gpu() -> bool:
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    listed = subprocess.run([program, "-L"], capture_output=True, check=False)
    return listed.returncode == 0 and b"GPU" in listed.stdout


def _import_error(target: Environment, module: str) -> str:
    """Return the last line of what importing the module says when it fails, else nothing."""
    result = _run_python(target, f"import {module}")
    lines = result.stderr.strip().splitlines() or [f"ended with status {result.returncode}"]
    return lines[-1] if result.returncode else ""


def _is_cpu_only(target: Environment) -> bool:
    check = "import sys, torch; sys.exit(bool(torch.version.cuda or torch.version.hip))"
    return _run_python(target, check).returncode == 0


def _run_python(target: Environment, code: str) -> subprocess.CompletedProcess[str]:
    command = [str(target.python), "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _mend_torchvision(target: Environment) -> None:
    """Declare the operators that do not load where a build for CUDA stands beside a CPU torch."""
    if "operator torchvision::nms does not exist" not in _import_error(target, "torchvision"):
        return
    file = target.site_packages / "torchvision" / "_meta_registrations.py"
    file.write_text(OPERATORS + file.read_text(encoding="utf-8"), encoding="utf-8")


def _mend_torchaudio(target: Environment) -> None:
    """Leave torchaudio on its Python part where the compiled one, for CUDA, does not load."""
    if _import_error(target, "torchaudio"):
        shutil.rmtree(target.site_packages / "torchaudio" / "lib", ignore_errors=True)
