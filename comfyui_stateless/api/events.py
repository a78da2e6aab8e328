"""Server-sent events of one job, as https://html.spec.whatwg.org/#server-sent-events has them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from ..bodies import Body, Text, json_body
from ..engine import PromptResult
from ..errors import RequestError, StatelessError
from ..jobs import Job
from ..wire import to_json
from .described import described_job
from .negotiation import EVENTS
from .streams import send_part

IDLE_S = 15.0
"""Seconds without an event after which a comment keeps gateways from closing the connection."""

LAST = frozenset({"succeeded", "failed"})

Outcome = Callable[[], Awaitable[PromptResult | None]]
"""Gives the result of a job that has ended, None if only its timeline is known."""


def wants_previews(request: web.Request) -> bool:
    """Say whether a client asks for previews: `?previews=true`."""
    return request.query.get("previews", "").lower() in ("1", "true", "yes")


def last_event_id(request: web.Request) -> int:
    """Return the number of the last event that a client has seen, 0 for none.

    Raises:
        RequestError: The header holds no number.
    """
    text = request.headers.get("Last-Event-ID", "").strip() or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise RequestError("Last-Event-ID has to be the id of an event of this stream.")
    return int(text)


async def follow(
    request: web.Request, job: Job, outcome: Outcome, *, previews: bool
) -> web.StreamResponse:
    """Send what happens to a job until it has ended, then the outcome as the last event.

    Args:
        previews: Whether previews are sent.

    Raises:
        ConnectionError: The client has gone.
    """
    after = last_event_id(request)
    response = await _opened(request)
    with job.watched(previews=previews):
        async for happening in job.timeline.follow(after, idle_s=IDLE_S):
            if happening is None:
                await response.write(b": still here\n\n")
            elif happening.name in LAST:
                after = happening.number
            elif previews or happening.name != "preview":
                await response.write(_event(happening.number, happening.name, happening.data))
    await _send_outcome(response, after, outcome, job)
    return response


async def tell_outcome(request: web.Request, outcome: Outcome) -> web.StreamResponse:
    """Send the last event of a job of which nothing else is known any more.

    Raises:
        ConnectionError: The client has gone.
    """
    number = last_event_id(request) + 1
    response = await _opened(request)
    await _send_outcome(response, number, outcome)
    return response


async def _opened(request: web.Request) -> web.StreamResponse:
    headers = {"Content-Type": EVENTS, "X-Accel-Buffering": "no"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    return response


async def _send_outcome(
    response: web.StreamResponse, number: int, outcome: Outcome, job: Job | None = None
) -> None:
    """Send the last event; ``job`` says how it ended where there is no result."""
    body: Body
    try:
        result = await outcome()
    except StatelessError as error:
        body = [Text(_event(number, "failed", error.body()))]
    else:
        if result is not None:
            body = _succeeded(number, json_body(result))
        else:
            body = [Text(_ending(number, job))]
    for part in body:
        await send_part(part, response.write)
    await response.write_eof()


def _ending(number: int, job: Job | None) -> bytes:
    if job is None:
        return b""
    if job.error is not None:
        return _event(number, "failed", job.error)
    return _event(number, "succeeded", described_job(job))


def _event(number: int, name: str, data: Mapping[str, Any]) -> bytes:
    return _head(number, name) + to_json(data) + b"\n\n"


def _succeeded(number: int, body: Body) -> Body:
    return [Text(_head(number, "succeeded")), *body, Text(b"\n\n")]


def _head(number: int, name: str) -> bytes:
    # JSON is ASCII on one line here, so that it needs no splitting into several data lines.
    return f"id: {number}\nevent: {name}\ndata: ".encode("ascii")
