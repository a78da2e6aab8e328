"""`POST /prompt`: run a graph, and answer as the request wants it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial

from aiohttp import web

from .. import pipeline
from ..background import Background
from ..idempotency import Answer
from ..journal import StoredResult
from ..pipeline import Services
from ..recording import repeated_reply, result_of
from ..shared import SharedRun
from .events import follow, outcome_of, tell_outcome, wants_previews
from .negotiation import Accept, accepted, require_servable
from .posted import Posted, read_prompt
from .replies import reply
from .responses import json_response
from .state import BACKGROUND, DISCONNECTS, SERVICES

Read = Callable[[web.Request, Services, AsyncExitStack], Awaitable[Posted]]
"""Reads what a client has posted; its files live as long as the stack."""


async def prompt(request: web.Request) -> web.StreamResponse:
    """Run a graph and answer with its outputs, or with 202 where they go elsewhere."""
    return await run_posted(request, read_prompt)


async def run_posted(request: web.Request, read: Read) -> web.StreamResponse:
    """Run the prompt that ``read`` makes of a request, and answer as the request wants it."""
    services = request.app[SERVICES]
    services.readiness.require()
    accept = accepted(*request.headers.getall("Accept", ()))
    require_servable(accept)
    wants_previews(request)  # a wrong one is refused before anything runs
    async with AsyncExitStack() as stack:
        posted = await read(request, services, stack)
        if posted.request.is_async or posted.key or accept.prefers_events:
            return await _answered(request, posted, accept, stack)
        return await _run(request, posted, accept, stack)


async def _run(
    request: web.Request, posted: Posted, accept: Accept, stack: AsyncExitStack
) -> web.StreamResponse:
    """Run a graph for nobody but this client."""
    services = request.app[SERVICES]
    job = stack.enter_context(services.jobs.open(posted.request))
    workspace = await stack.enter_async_context(services.engine.workspace(job.run_id))
    with request.app[DISCONNECTS].watch(request, job):
        result = await services.jobs.finish(
            job, lambda: pipeline.run(posted.request, services, job, workspace, posted.uploads)
        )
    return await reply(request, result, accept, stack.aclose)


async def _answered(
    request: web.Request, posted: Posted, accept: Accept, stack: AsyncExitStack
) -> web.StreamResponse:
    """Answer with what a run in the background comes to, now or before."""
    background = request.app[BACKGROUND]

    async def begin() -> Answer:
        return await _begin(background, posted, stack)

    answer = await (background.idempotency.once(posted.key, begin) if posted.key else begin())
    if isinstance(answer, SharedRun):
        return await _joined(request, answer, accept)
    if isinstance(answer, Mapping):
        return json_response(answer, status=202)
    if posted.request.is_async:
        return json_response(repeated_reply(answer), status=202)
    return await _repeated(request, answer, accept)


async def _begin(background: Background, posted: Posted, stack: AsyncExitStack) -> Answer:
    if posted.request.is_async:
        return await background.accept(posted.request, posted.uploads, stack, posted.key)
    return background.share(posted.request, posted.uploads, stack, posted.key)


async def _joined(request: web.Request, shared: SharedRun, accept: Accept) -> web.StreamResponse:
    """Wait for a run, and tell of it meanwhile where the client wants that."""
    async with AsyncExitStack() as stack:
        waiter = stack.enter_context(shared.joined())
        with request.app[DISCONNECTS].watch(request, waiter):
            if accept.prefers_events:
                previews = wants_previews(request)
                return await follow(request, shared.job, waiter.result, previews=previews)
            result = await waiter.result()
        return await reply(request, result, accept, stack.aclose)


async def _repeated(
    request: web.Request, stored: StoredResult, accept: Accept
) -> web.StreamResponse:
    """Answer as the first time."""
    if accept.prefers_events:
        return await tell_outcome(request, stored.run_id, partial(outcome_of, stored))

    async def nothing() -> None:
        """The files are the journal's, and stay."""

    return await reply(request, result_of(stored), accept, nothing)
