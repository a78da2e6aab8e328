"""The routes: each reads a request, hands it on, and answers."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from aiohttp import web

from .. import __version__, pipeline
from ..requests import parse_interrupt, parse_prompt
from .body import parsed, read_body
from .negotiation import accepted, require_servable
from .replies import reply
from .state import DISCONNECTS, SERVICES
from .wire import to_json


async def prompt(request: web.Request) -> web.StreamResponse:
    """Run a graph and answer with its outputs."""
    services = request.app[SERVICES]
    services.readiness.require()
    accept = accepted(*request.headers.getall("Accept", ()))
    require_servable(accept)
    body = await read_body(request, services.settings.max_body_bytes)
    wanted = await parsed(body, parse_prompt)
    with services.jobs.open(wanted) as job:
        async with AsyncExitStack() as stack:
            workspace = await stack.enter_async_context(services.engine.workspace(job.run_id))
            with request.app[DISCONNECTS].watch(request, job):
                result = await services.jobs.finish(
                    job, lambda: pipeline.run(wanted, services, job, workspace)
                )
            return await reply(request, result, accept, stack.aclose)


async def interrupt(request: web.Request) -> web.Response:
    """Stop every live job of an id."""
    services = request.app[SERVICES]
    body = await read_body(request, services.settings.max_body_bytes)
    wanted = await parsed(body, parse_interrupt)
    if services.jobs.interrupt(wanted.id):
        return json_response({"id": wanted.id, "interrupted": "success"})
    return json_response({"id": wanted.id, "interrupted": "failed"}, status=404)


async def models(request: web.Request) -> web.Response:
    """List the files of every model folder."""
    return json_response(await request.app[SERVICES].engine.models())


async def health(request: web.Request) -> web.Response:
    """Answer the liveness probe."""
    verdict = request.app[SERVICES].readiness.health()
    if not verdict.ok:
        return unhealthy(verdict.reason)
    return json_response(_probe("healthy", verdict.reason))


async def ready(request: web.Request) -> web.Response:
    """Answer the readiness probe."""
    services = request.app[SERVICES]
    verdict = services.readiness.ready(
        trouble=services.engine.trouble(),
        depth=services.jobs.depth(),
        max_depth=services.settings.max_queue_depth,
    )
    return json_response(_probe("ready", None)) if verdict.ok else unready(verdict.reason)


def unhealthy(reason: str | None) -> web.Response:
    """Return what the liveness probe answers when all is not well."""
    return json_response(_probe("not healthy", reason), status=500)


def unready(reason: str | None) -> web.Response:
    """Return what the readiness probe answers when no work can be taken."""
    return json_response(_probe("not ready", reason), status=503)


def json_response(value: Any, *, status: int = 200) -> web.Response:
    """Return a response with ``value`` as its JSON body."""
    headers = {"Content-Type": "application/json; charset=utf-8"}
    return web.Response(body=to_json(value), status=status, headers=headers)


def _probe(status: str, reason: str | None) -> dict[str, str]:
    answer = {"version": __version__, "status": status}
    return answer if reason is None else {**answer, "reason": reason}
