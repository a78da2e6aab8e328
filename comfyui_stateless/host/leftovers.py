"""What cannot be deleted when its run ends, and is tried again for as long as the process runs.

What is missing then has gone with its folder, which may come back, as mounts do: it is looked for
until the waits are at their longest.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from .files import is_deleted

log = logging.getLogger("comfyui_stateless.host")

AGAIN_S, MOST_AGAIN_S = 1.0, 600.0
"""Seconds until the next try: they double from the first to the second."""

MAX_LEFT = 1000
"""Folders that are tried again; those beyond stay for the next start, which sweeps them all."""


class Leftovers:
    """Deletes later what cannot be deleted now. Use it on the loop's thread."""

    def __init__(self) -> None:
        self._tries: set[asyncio.Task[None]] = set()
        self._count = 0

    def take(self, paths: Iterable[Path]) -> None:
        """Try from now on to delete what could not be deleted, or was missing."""
        if left := list(paths)[: MAX_LEFT - self._count]:
            self._count += len(left)
            tries = asyncio.create_task(self._try(left))
            self._tries.add(tries)
            tries.add_done_callback(self._tries.discard)

    async def _try(self, left: list[Path]) -> None:
        wait_s = AGAIN_S
        while left:
            await asyncio.sleep(wait_s)
            is_late, wait_s = wait_s == MOST_AGAIN_S, min(2 * wait_s, MOST_AGAIN_S)
            still = await asyncio.to_thread(_still, left, is_late=is_late)
            self._count -= len(left) - len(still)
            left = still


def _still(paths: Iterable[Path], *, is_late: bool) -> list[Path]:
    """Return what is still to be deleted, which what is missing is not for ever."""
    still = []
    for path in paths:
        if not os.path.lexists(path):
            still += [] if is_late else [path]
        elif is_deleted(path):
            log.info("%s could be deleted now", path)
        else:
            still.append(path)
    return still
