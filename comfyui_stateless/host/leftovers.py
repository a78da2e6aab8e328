"""What cannot be deleted when its run ends, and is tried again for as long as the process runs."""

from __future__ import annotations

import asyncio
import logging
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
        self._left: dict[Path, None] = {}
        self._trying: asyncio.Task[None] | None = None

    def take(self, paths: Iterable[Path]) -> None:
        """Try again from now on to delete what a log line has named already."""
        self._left.update(dict.fromkeys(paths))
        for path in list(self._left)[MAX_LEFT:]:
            del self._left[path]
        if self._left and (self._trying is None or self._trying.done()):
            self._trying = asyncio.create_task(self._try())

    async def _try(self) -> None:
        wait_s = AGAIN_S
        while self._left:
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, MOST_AGAIN_S)
            for path in list(self._left):
                if await asyncio.to_thread(is_deleted, path):
                    del self._left[path]
                    log.info("%s could be deleted now", path)
