"""What the tests of the editor's tab run in: Chromium, and a newer frontend of ComfyUI."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from pathlib import Path

from docker.steps import Console, SetupError

CHROMIUM = Path("/usr/bin/chromium")

FRONTEND = "1.58.1"
SHA256 = "37912597537a731a8f421179618a736c24184c5bdbfa327f38b2fb7c291852d9"
PACKAGE = "comfyui_frontend_package"


def ensure_chromium(console: Console, program: Path = CHROMIUM) -> None:
    """Install Debian's Chromium where it is missing and may be installed; else only say so.

    Raises SetupError when apt fails.
    """
    if program.is_file():
        return
    apt = shutil.which("apt-get")
    if apt is None or not _is_root():
        console.note(
            f"{program} is not there: the tests in tests/browser will fail. On Debian, install it "
            "as root: apt-get install chromium"
        )
        return
    with console.step("Chromium"):
        console.run([apt, "update", "-qq"])
        console.run([apt, "install", "-y", "-qq", "--no-install-recommends", "chromium"])


def ensure_frontend(folder: Path, console: Console, python: Path) -> None:
    """Put the newer frontend into `folder`, whole or not at all, unless it is there.

    `python` has pip. Raises SetupError when it cannot be had, or is not the one that is pinned.
    """
    if (folder / "static" / "index.html").is_file():
        return
    partial = folder.parent / f".{folder.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with console.step(f"ComfyUI's frontend {FRONTEND}"):
            wheel = _download(partial, console, python)
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(partial / "unpacked")
        shutil.rmtree(folder, ignore_errors=True)
        (partial / "unpacked" / PACKAGE).rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _download(folder: Path, console: Console, python: Path) -> Path:
    command = [str(python), "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    console.run([*command, "--dest", str(folder), f"comfyui-frontend-package=={FRONTEND}"])
    [wheel] = folder.glob("*.whl")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        raise SetupError(
            f"the wheel of ComfyUI's frontend {FRONTEND} is not the one this project was made "
            f"with, and is not used:\n    sha256 {found}\n    wanted {SHA256}"
        )
    return wheel


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0
