"""Azurite, the emulator of Azure's storage that the test suite runs: an npm package."""

from __future__ import annotations

import shutil
from pathlib import Path

from docker.steps import Console

VERSION = "3.35.0"
STAMP = "installed"


def ensure(folder: Path, console: Console) -> None:
    """Put Azurite into `folder`, unless this very version is there; without npm only say so.

    Raises SetupError when npm fails.
    """
    stamp = folder / STAMP
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == VERSION:
        return
    npm = shutil.which("npm")
    if npm is None:
        console.note("npm is not there, nor is Azurite: the tests of Azure will fail")
        return
    with console.step(f"Azurite {VERSION}"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        quiet = ["--no-audit", "--no-fund", "--no-update-notifier"]
        console.run([npm, "install", *quiet, "--prefix", folder, f"azurite@{VERSION}"])
        stamp.write_text(VERSION, encoding="utf-8")
