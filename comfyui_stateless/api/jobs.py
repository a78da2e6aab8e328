"""All jobs and the server's state: for panels and those who look after the server."""

from __future__ import annotations

from contextlib import aclosing

from aiohttp import web

from ..board import Board
from ..errors import NotFound, RequestError
from ..stalls import being_read
from . import events
from .negotiation import EVENTS
from .responses import json_response
from .state import BOARD

MAX_LIMIT = 500


async def listing(request: web.Request) -> web.Response:
    """List the jobs that live and those that ended lately."""
    return json_response({"jobs": _board(request).listing(_limit(request))})


async def thumbnail(request: web.Request) -> web.Response:
    """Show a small picture of what a job made."""
    jpeg = _board(request).thumbnail(request.match_info["run"])
    if jpeg is None:
        raise NotFound("There is no thumbnail of this job.")
    return web.Response(body=jpeg, content_type="image/jpeg")


async def interrupt(request: web.Request) -> web.Response:
    """Stop one job, where several have the same id."""
    caller_id, stopped = _board(request).interrupt(request.match_info["run"])
    outcome = "success" if stopped else "failed"
    answer = {"id": caller_id, "interrupted": outcome}
    return json_response(answer, status=200 if stopped else 404)


async def status(request: web.Request) -> web.Response:
    """Tell how the server is."""
    return json_response(await _board(request).status())


async def follow(request: web.Request) -> web.StreamResponse:
    """Stream what happens to all jobs and to the server, for as long as the client listens.

    Raises:
        ConnectionError: The client has gone.
    """
    headers = {"Content-Type": EVENTS, "X-Accel-Buffering": "no"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    async with aclosing(_board(request).follow(idle_s=events.IDLE_S)) as frames:
        async for frame in frames:
            with being_read(request):
                await response.write(b": still here\n\n" if frame is None else frame)
    return response


def _board(request: web.Request) -> Board:
    return request.app[BOARD]


def _limit(request: web.Request) -> int:
    given = request.query.get("limit", str(MAX_LIMIT))
    number = int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0
    if not 1 <= number <= MAX_LIMIT:
        raise RequestError(f"limit must be a number from 1 to {MAX_LIMIT}.", location="limit")
    return number
