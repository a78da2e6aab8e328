"""Server-sent events of one job, as https://html.spec.whatwg.org/#server-sent-events has them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from aiohttp import web

from ..bodies import Body, Text, json_body
from ..engine import PromptResult
from ..errors import Gone, RequestError, StatelessError
from ..jobs import Job, JobState
from ..journal import StoredResult
from ..recording import result_of
from ..stalls import being_read
from ..wire import to_json
from .described import described_job
from .negotiation import EVENTS
from .streams import Send, send_part

IDLE_S = 15.0
"""Seconds without an event after which a comment keeps gateways from closing the connection."""

LAST = frozenset({"succeeded", "failed"})

Outcome = Callable[[], Awaitable[PromptResult | None]]
"""Gives the result of a job that has ended, None if only its timeline is known."""


_SAID = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def wants_previews(request: web.Request) -> bool:
    """Say whether a client asks for previews: `?previews=true`.

    Raises:
        RequestError: It says neither yes nor no.
    """
    said = _SAID.get(request.query.get("previews", "no").lower())
    if said is None:
        raise RequestError("previews must be true or false.", location="previews")
    return said


async def follow(
    request: web.Request, job: Job, outcome: Outcome, *, previews: bool
) -> web.StreamResponse:
    """Send what happens to a job until it has ended, then the outcome as the last event.

    A client that names the last event that it has seen gets those behind it.

    Args:
        previews: Whether previews are sent.

    Raises:
        ConnectionError: The client has gone.
    """
    if _has_seen_all(request, job.run_id):
        return web.Response(status=204)
    token = job.timeline.token
    response = await _opened(request)
    send = _sending(request, response)
    happenings = job.timeline.follow(_last_number(request, token), idle_s=IDLE_S)
    with job.watched(previews=previews):
        async with aclosing(happenings):
            async for happening in happenings:
                if happening is None:
                    await send(b": still here\n\n")
                elif happening.name in LAST or (happening.name == "preview" and not previews):
                    continue
                else:
                    name = f"{token}-{happening.number}"
                    await send(_event(name, happening.name, happening.data))
    await _send_outcome(send, job.run_id, outcome, job)
    await response.write_eof()
    return response


async def tell_outcome(request: web.Request, run_id: str, outcome: Outcome) -> web.StreamResponse:
    """Send the last event of a run of which nothing else is known any more.

    Raises:
        ConnectionError: The client has gone.
    """
    if _has_seen_all(request, run_id):
        return web.Response(status=204)
    response = await _opened(request)
    await _send_outcome(_sending(request, response), run_id, outcome)
    await response.write_eof()
    return response


def _has_seen_all(request: web.Request, run_id: str) -> bool:
    """Say whether a client comes back behind the end; 204 is what keeps it from doing so again."""
    return _last_event_id(request) == _last_name(run_id)


def _last_number(request: web.Request, token: str) -> int:
    """Return the number of the last event of a timeline that a client has seen, 0 for none."""
    own, _, number = _last_event_id(request).partition("-")
    is_number = number.isascii() and number.isdigit() and len(number) < 16
    return int(number) if own == token and is_number else 0


def _last_event_id(request: web.Request) -> str:
    return request.headers.get("Last-Event-ID", "").strip()


def _last_name(run_id: str) -> str:
    return f"{run_id}-end"


async def outcome_of(stored: StoredResult) -> PromptResult:
    """Return how a run ended that is kept, as an ``Outcome``.

    Raises:
        StatelessError: It failed so, or its outputs were not kept.
    """
    return result_of(stored)


async def _opened(request: web.Request) -> web.StreamResponse:
    headers = {"Content-Type": EVENTS, "X-Accel-Buffering": "no"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    return response


def _sending(request: web.Request, response: web.StreamResponse) -> Send:
    async def send(data: bytes | memoryview) -> None:
        with being_read(request):
            await response.write(data)

    return send


async def _send_outcome(send: Send, run_id: str, outcome: Outcome, job: Job | None = None) -> None:
    """Send the last event; ``job`` says how it ended where there is no result."""
    body: Body
    name = _last_name(run_id)
    try:
        result = await outcome()
    except Gone as error:
        known = {"state": JobState.SUCCEEDED.value} if job is None else described_job(job)
        body = [Text(_event(name, "succeeded", {**known, "gone": error.message}))]
    except StatelessError as error:
        body = [Text(_event(name, "failed", error.body()))]
    else:
        if result is not None:
            body = _succeeded(name, json_body(result))
        else:
            body = [Text(_ending(name, job))]
    for part in body:
        await send_part(part, send)


def _ending(event_id: str, job: Job | None) -> bytes:
    if job is None or not job.state.is_terminal:
        return b""  # the job is left for the next start
    if job.error is not None:
        return _event(event_id, "failed", job.error)
    return _event(event_id, "succeeded", described_job(job))


def _event(event_id: str, name: str, data: Mapping[str, Any]) -> bytes:
    return _head(event_id, name) + to_json(data) + b"\n\n"


def _succeeded(event_id: str, body: Body) -> Body:
    return [Text(_head(event_id, "succeeded")), *body, Text(b"\n\n")]


def _head(event_id: str, name: str) -> bytes:
    # JSON is on one line here, so that it needs no splitting into several data lines.
    return f"id: {event_id}\nevent: {name}\ndata: ".encode("ascii")
