"""The packaging tools, and a copy of the tree for them to work on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
TOOLS = CHECKOUT / ".comfyui" / "packaging" / "bin"


def tool(name: str) -> Path:
    """Return a program of the packaging tools' environment."""
    if not (TOOLS / name).exists():
        pytest.fail(f"{name} is missing: run the suite with `make test`")
    return TOOLS / name


def run(command: Sequence[str | Path], folder: Path, home: Path) -> str:
    """Run a command in a folder; return all that it has printed."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "DO_NOT_TRACK": "1",
        "LANG": "C.UTF-8",
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def tracked(folder: Path, *below: str) -> set[str]:
    """Return the files of a repository's tree, by their paths."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *below]
    listed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.split("\0") if (folder / name).is_file()}


def copy_tree(target: Path) -> Path:
    """Make a repository of its own of the tree as it is now."""
    for name in tracked(CHECKOUT):
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, place)
    for words in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *words], cwd=target, check=True, capture_output=True)
    return target
