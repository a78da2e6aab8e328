"""ComfyUI's own routes, kept from jobs that they were not meant for, and the jobs from what they write.

Its *interrupt* stops whatever runs. Who presses it in ComfyUI's page sees no job of ours there and means a
prompt of the page, which may well be waiting behind one.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from .runs import Runs
from .strays import Strays

log = logging.getLogger("comfyui_stateless.host")

ROUTES = frozenset({"/interrupt", "/api/interrupt"})
READING = frozenset({"GET", "HEAD", "OPTIONS"})
QUEUEING = frozenset({"prompt", "queue", "history", "interrupt", "free"})
"""What writes no file, at least not before the run that is going has ended."""

USERS = frozenset({"settings", "users", "userdata", "internal"})
"""What writes into the users' own folder, if anywhere, with all that is below it."""


def sparing(server: Any, runs: Runs, strays: Strays, prefix: str) -> Middleware:
    """Return a middleware for ComfyUI's application that spares our runs, and what others upload.

    A run that is named by its prompt id is stopped: that somebody has found out and means it.

    Args:
        server: ComfyUI's PromptServer.
        strays: Has to know when others may write into the output folder.
        prefix: Of the paths that are ours.
    """

    @web.middleware
    async def spare(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "POST" and request.path in ROUTES:
            named = await _named(request)
            running = _running(server.prompt_queue)
            if named not in running and any(map(runs.get, running)):
                log.info("An interruption from ComfyUI's own route spares the job that runs")
                return web.Response()
        path = request.path
        route = path.removeprefix("/api")[1:]
        is_harmless = (
            path.startswith(prefix) or route in QUEUEING or route.partition("/")[0] in USERS
        )
        if is_harmless or request.method in READING:
            return await handler(request)
        with strays.others_write():
            return await handler(request)

    return spare


def _running(queue: Any) -> list[str]:
    with queue.mutex:
        return [item[1] for item in queue.currently_running.values()]


async def _named(request: web.Request) -> Any:
    """Return the prompt id that newer pages send along, None where there is none."""
    try:
        said = json.loads(await request.read())
    except (ValueError, RecursionError):
        return None
    return said.get("prompt_id") if isinstance(said, dict) else None
