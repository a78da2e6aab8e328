"""Disks that are small, and can be full."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

BALLAST = ".ballast"


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[None]:
    """Have a disk of its own under a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0700", "tmpfs", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.fail(f"small disks are mounted, which needs root: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def full(folder: Path, left_bytes: int = 0) -> Iterator[None]:
    """Have the disk under a folder full for the block, but for some bytes."""
    ballast = folder / BALLAST
    try:
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while (size := shutil.disk_usage(folder).free - left_bytes) > 0:
                file.write(bytes(min(size, 2**20)))
        yield
    finally:
        ballast.unlink()
