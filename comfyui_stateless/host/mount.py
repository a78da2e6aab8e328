"""How our application becomes part of ComfyUI's server."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from comfy.cli_args import args
from multidict import CIMultiDict
from server import PromptServer
from yarl import URL

from ..errors import WrongHost
from ..hosts import require_host
from ..stalls import FIRST_REQUEST_S, first_requests_within
from ..wire import to_json

PREFIX = "/api/stateless"

MOUNTED_FROM = "_comfyui_stateless_mounted_from"
"""Where a server keeps the folder of the copy of this pack that is in it."""


def prompt_server() -> Any:
    """Return this process's PromptServer.

    Raises:
        RuntimeError: There is none, as when a tool only scans for nodes.
    """
    server = getattr(PromptServer, "instance", None)
    if server is None:
        raise RuntimeError("ComfyUI runs no server here")
    return server


def mount(app: web.Application) -> None:
    """Serve ``app`` below ``PREFIX``. Call it last: a route cannot be taken back."""
    server = prompt_server()
    server.app.add_subapp(PREFIX, app)
    setattr(server, MOUNTED_FROM, Path(__file__).parents[2])


def mounted_from() -> Path | None:
    """Return the folder of the copy of this pack that is mounted already, None if there is none.

    An image may bring one copy, and its user install another.
    """
    found = getattr(prompt_server(), MOUNTED_FROM, None)
    return None if found is None else Path(found)


async def taken_routes(app: web.Application) -> dict[str, str]:
    """Return which routes of ``app``, such as ``GET /api/stateless/jobs``, others answer, and who.

    Call it when the server starts: a route for the very path goes before a sub-application,
    whichever came first, and ComfyUI adds those of packs once all of them are loaded.
    """
    ours, router = set(app.router.resources()), prompt_server().app.router
    taken: dict[str, str] = {}
    for route in app.router.routes():
        if route.resource is None or route.method == "HEAD":
            continue
        path = route.resource.canonical
        found = await router.resolve(_asking(route.method, re.sub(r"\{.*?\}", "any", path)))
        if found.route.resource not in ours:
            taken[f"{route.method} {path}"] = str(found.handler.__module__)
    return taken


def _asking(method: str, path: str) -> Any:
    """Return as much of a request as a router looks at."""
    return SimpleNamespace(method=method, rel_url=URL(path), headers=CIMultiDict())


def require_hosts(allowed: Collection[str]) -> None:
    """Let ComfyUI's own routes be called by the names that are ``allowed``, and by no other.

    It comes first of all: ComfyUI would look up the other name, on its event loop. What is below
    ``PREFIX`` looks by itself, and has probes that anyone may ask.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith(f"{PREFIX}/"):
            try:
                require_host(request.headers, allowed)
            except WrongHost as error:
                body = to_json(error.body())
                return web.Response(status=error.status, body=body, content_type="application/json")
        return await handler(request)

    prompt_server().app.middlewares.insert(0, check)


def limit_first_requests() -> None:
    """End connections to ComfyUI's server that bring no request within ``FIRST_REQUEST_S``.

    Call it last of what comes first: no other answer may keep it from hearing of a request.
    """
    prompt_server().app.middlewares.insert(0, first_requests_within(FIRST_REQUEST_S))


def cors_headers() -> dict[str, str]:
    """Return the headers that ComfyUI adds where ``--enable-cors-header`` is set.

    It adds them when a handler has returned, which for a streamed answer is too late.
    """
    origin = args.enable_cors_header
    if not origin:
        return {}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": "POST, GET, DELETE, PUT, OPTIONS, PATCH",
        "Access-Control-Allow-Headers": "Content-Type, Authorization, X-API-Key",
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": "X-Prompt-Id, Retry-After",
    }
