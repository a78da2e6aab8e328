"""What the gateway answers by itself."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ..errors import StatelessError
from ..wire import to_json


def json_answer(value: Any, status: int) -> web.Response:
    """Return a small JSON response that nobody keeps."""
    headers = {"Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store"}
    return web.Response(body=to_json(value), status=status, headers=headers)


def refusal(request: web.BaseRequest, error: StatelessError) -> web.Response:
    """Return an error in the one shape. What may still come behind it costs the connection."""
    response = json_answer(error.body(), error.status)
    response.headers.update(error.headers)
    if not request.content.is_eof() or request.method == "CONNECT":
        response.force_close()
    return response
