"""How our application becomes part of ComfyUI's server."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from comfy.cli_args import args
from server import PromptServer

PREFIX = "/api/stateless"


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
    prompt_server().app.add_subapp(PREFIX, app)


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
