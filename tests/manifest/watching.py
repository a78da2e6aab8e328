"""Looking at the processes of this machine."""

from __future__ import annotations

import os
from pathlib import Path


def lives(process: int) -> bool:
    """Say whether a process lives; one that only nobody has waited for does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def processes_in(folder: Path) -> list[int]:
    """Return the processes whose working folder lies in ``folder``."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            target = os.readlink(link)  # noqa: PTH115 - it may be gone, and be called so
        except OSError:
            continue
        if target.startswith(str(folder)):
            found.append(int(link.parent.name))
    return found
