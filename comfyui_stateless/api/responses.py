"""Small responses."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ..wire import to_json


def json_response(value: Any, *, status: int = 200) -> web.Response:
    """Return a response with ``value`` as its JSON body."""
    headers = {"Content-Type": "application/json; charset=utf-8"}
    return web.Response(body=to_json(value), status=status, headers=headers)
