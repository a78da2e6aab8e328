"""Workflow endpoints: run them, list and describe them, save and remove them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from aiohttp import web

from ..errors import Forbidden
from ..pipeline import Services
from ..requests import parse_json, validate
from ..workflows.base import HasDefinition
from ..workflows.collection import Edition, Entry, Workflows
from .body import parsed, read_body
from .posted import Posted, key_of, read_parts
from .prompts import run_posted
from .responses import json_response
from .state import SERVICES, WORKFLOWS


async def run(request: web.Request) -> web.StreamResponse:
    """Run what an endpoint makes of its input, and answer as `POST /prompt` does."""
    return await run_posted(request, _read)


async def listing(request: web.Request) -> web.Response:
    """List all endpoints, and what is wrong with files that cannot be any."""
    workflows = request.app[WORKFLOWS]
    edition = await workflows.edition(lists=True)
    said = [_described(entry, workflows) for entry in edition.entries.values()]
    return json_response({"workflows": said, "errors": _errors(edition, workflows)})


async def describe(request: web.Request) -> web.Response:
    """Describe one endpoint."""
    workflows = request.app[WORKFLOWS]
    entry = await workflows.entry(request.match_info["path"], lists=True)
    return json_response(_whole(entry, workflows))


async def publish(request: web.Request) -> web.Response:
    """Save a graph with its inputs as an endpoint."""
    from ..workflows.publishing import Publication
    from ..workflows.publishing import publish as save

    services, workflows = request.app[SERVICES], request.app[WORKFLOWS]
    _require_allowed(services)
    body = await read_body(request, services.settings.max_body_bytes)
    published = await parsed(body, lambda text: validate(Publication, parse_json(text)))
    entry, is_new = await save(workflows, request.match_info["path"], published)
    return json_response(_whole(entry, workflows), status=201 if is_new else 200)


async def remove(request: web.Request) -> web.Response:
    """Remove the endpoint of a graph."""
    from ..workflows.publishing import remove as delete

    _require_allowed(request.app[SERVICES])
    path = request.match_info["path"]
    await delete(request.app[WORKFLOWS], path)
    return json_response({"path": path, "status": "removed"})


async def _read(request: web.Request, services: Services, stack: AsyncExitStack) -> Posted:
    """Read the body of a request to an endpoint, and let the endpoint make a prompt of it."""
    from ..workflows.requests import WorkflowPrompt, parse_workflow

    path = request.match_info["path"]
    body, uploads = await read_parts(request, services, stack)
    posted = await parsed(body, parse_workflow)
    key = key_of(request, body, uploads, f"workflow/{path}")
    built = await request.app[WORKFLOWS].build(path, posted.input)
    prompt = WorkflowPrompt.of(posted, path, built.graph, built.input)
    return Posted(prompt, uploads, key)


def _require_allowed(services: Services) -> None:
    if not services.settings.allow_publish:
        raise Forbidden(
            "Workflows cannot be saved or removed here: the operator has not set "
            "ALLOW_PUBLISH=true."
        )


def _described(entry: Entry, workflows: Workflows) -> dict[str, Any]:
    said: dict[str, Any] = {"path": entry.path, "source": workflows.relative(entry.file)}
    if entry.endpoint is not None:
        known = entry.endpoint.description
        said |= {
            "summary": known.summary,
            "description": known.description,
            "schema": known.schema,
        }
    if entry.error is not None:
        said["error"] = workflows.said(entry.error)
    return said


def _whole(entry: Entry, workflows: Workflows) -> dict[str, Any]:
    said = _described(entry, workflows)
    endpoint: object = entry.endpoint
    if entry.endpoint is not None:
        said["example"] = entry.endpoint.description.example
    if isinstance(endpoint, HasDefinition):
        said["definition"] = endpoint.definition
    return said


def _errors(edition: Edition, workflows: Workflows) -> list[dict[str, Any]]:
    return [
        {"file": workflows.relative(error.file), "line": error.line, "reason": error.reason}
        for error in edition.errors
    ]
