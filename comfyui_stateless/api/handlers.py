"""The routes: each reads a request, hands it on, and answers."""

from __future__ import annotations

from contextlib import AsyncExitStack

from aiohttp import web

from .. import __version__
from ..naming import redacted
from ..readiness import STATE_HEADER, Verdict, probe_body
from ..requests import parse_download, parse_interrupt
from .body import parsed, read_body
from .described import described_findings, described_progress
from .posted import read_prompt
from .responses import json_response
from .state import SERVICES


async def validate(request: web.Request) -> web.Response:
    """Say what would happen to a prompt, without running it."""
    from ..examine import examine  # late, as most servers are never asked

    services = request.app[SERVICES]
    services.readiness.require()
    async with AsyncExitStack() as stack:
        posted = await read_prompt(request, services, stack)
        findings = await examine(posted.request, services, posted.uploads)
        return json_response(described_findings(findings))


async def download(request: web.Request) -> web.Response:
    """Fetch a model into a model folder."""
    services = request.app[SERVICES]
    services.readiness.require()
    body = await read_body(request, services.settings.max_body_bytes)
    wanted = await parsed(body, parse_download)
    named = services.downloads.check(wanted)
    answer = {"url": redacted(wanted.url), "model_type": wanted.model_type, "filename": named}
    if not wanted.wait:
        services.downloads.start(wanted)
        return json_response({**answer, "status": "started"}, status=202)
    done = await services.downloads.fetch(wanted)
    return json_response(
        {
            **answer,
            "filename": done.filename,
            "status": "completed",
            "size": done.size,
            "duration": round(done.seconds, 3),
        }
    )


async def downloads(request: web.Request) -> web.Response:
    """List what is being downloaded."""
    under_way = request.app[SERVICES].downloads.under_way()
    return json_response({"downloads": [described_progress(each) for each in under_way]})


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
    return _probe("healthy", verdict) if verdict.ok else unhealthy(verdict)


async def ready(request: web.Request) -> web.Response:
    """Answer the readiness probe."""
    verdict = request.app[SERVICES].verdict()
    return _probe("ready", verdict) if verdict.ok else unready(verdict)


def unhealthy(verdict: Verdict) -> web.Response:
    """Return what the liveness probe answers when all is not well."""
    return _probe("not healthy", verdict, 500)


def unready(verdict: Verdict) -> web.Response:
    """Return what the readiness probe answers when no work can be taken."""
    return _probe("not ready", verdict, 503)


def _probe(text: str, verdict: Verdict, status: int = 200) -> web.Response:
    response = json_response(probe_body(__version__, text, verdict.reason), status=status)
    response.headers[STATE_HEADER] = verdict.state
    return response
