"""The npm packages that the tests of workflow files in JavaScript need, pinned by the product."""

from __future__ import annotations

import shutil
from pathlib import Path

from docker.steps import Console

LISTS = ("package.json", "package-lock.json")


def ensure(folder: Path, lists: Path, console: Console) -> None:
    """Put what `lists` pins into `folder`, unless it is there; without npm only say so.

    Raises SetupError when npm fails.
    """
    # Written last: without it a set-up broke off.
    stamp = folder / "installed"
    wanted = (lists / "package-lock.json").read_bytes()
    if stamp.is_file() and stamp.read_bytes() == wanted:
        return
    npm = shutil.which("npm")
    if npm is None:
        console.note("npm is not there: the tests of workflow files in JavaScript will fail")
        return
    with console.step("zod and TypeScript for workflow files"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in LISTS:
            shutil.copyfile(lists / name, folder / name)
        quiet = ["--no-audit", "--no-fund", "--no-update-notifier"]
        console.run([npm, "ci", "--ignore-scripts", *quiet, "--prefix", folder])
        stamp.write_bytes(wanted)
