"""The application: routes as data, mounted on ComfyUI's server or served on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiohttp import web
from aiohttp.typedefs import Middleware

from ..background import Background
from ..board import Board
from ..config import Settings
from ..errors import StatelessError
from ..metrics import Metrics
from ..pipeline import Services
from ..readiness import Verdict
from ..workflows.collection import Workflows
from ..workflows.loaders import Loaders
from . import docs, handlers, jobs, metrics, prompts, status, workflows
from .admission import Admission
from .disconnects import Disconnects
from .document import Document
from .middleware import (
    answer_errors,
    answer_expectation,
    note_begun,
    refuse_unasked,
    require_host_of,
    require_key,
)
from .state import (
    ADMISSION,
    BACKGROUND,
    BOARD,
    DISCONNECTS,
    DOCUMENT,
    METRICS,
    SERVICES,
    TEMPLATES,
    WORKFLOWS,
)
from .unreadable import refuse_unreadable

ANY_ID = "{id:[^/]+}"
"""An id in a path, percent-encoded; without its own pattern it could have no braces."""

ANY_PATH = "{path:(?s:.+)}"
"""The path of a workflow endpoint, percent-encoded; line breaks are no reason to find no route."""

ROUTES = (
    web.post("/prompt", prompts.prompt, name="prompt"),
    web.get(f"/prompt/{ANY_ID}", status.status, name="status"),
    web.get(f"/prompt/{ANY_ID}/events", status.events, name="events"),
    web.get("/workflow", workflows.listing, name="workflows"),
    web.post(f"/workflow/{ANY_PATH}", workflows.run, name="workflow"),
    web.get(f"/workflow/{ANY_PATH}", workflows.describe, name="workflow"),
    web.put(f"/workflow/{ANY_PATH}", workflows.publish, name="workflow"),
    web.delete(f"/workflow/{ANY_PATH}", workflows.remove, name="workflow"),
    web.post("/interrupt", handlers.interrupt, name="interrupt"),
    web.post("/validate", handlers.validate, name="validate"),
    web.post("/download", handlers.download, name="download"),
    web.get("/download", handlers.downloads, name="downloads"),
    web.get("/models", handlers.models, name="models"),
    web.get("/jobs", jobs.listing, name="jobs"),
    web.get("/jobs/{run}/thumbnail", jobs.thumbnail, name="thumbnail"),
    web.post("/jobs/{run}/interrupt", jobs.interrupt, name="interrupt-run"),
    web.get("/events", jobs.follow, name="all-events", allow_head=False),
    web.get("/status", jobs.status, name="server-status"),
    web.get("/metrics", metrics.metrics, name="metrics"),
    web.get("/health", handlers.health, name="health"),
    web.get("/ready", handlers.ready, name="ready"),
    web.get("/openapi.json", docs.openapi, name="openapi"),
    web.get("/docs", docs.page, name="docs"),
    web.get("/docs/", docs.page, name="docs-folder"),
    web.get("/docs/json", docs.openapi_below_docs, name="docs-json"),
    web.get("/docs/{name}", docs.asset, name="docs-asset"),
)

PROBES = frozenset({"health", "ready"})

CORS_HEADER = "Access-Control-Allow-Origin"
"""With it the operator lets pages of other origins in."""

NO_HEADERS: Mapping[str, str] = {}


def create_app(
    services: Services,
    background: Background,
    numbers: Metrics,
    board: Board,
    *,
    headers: Mapping[str, str] = NO_HEADERS,
) -> web.Application:
    """Return the API on ``services``, with ``background`` for what outlives its request.

    Args:
        numbers: What a scrape gets; every request is counted in its tallies.
        board: Lists and tells of all jobs.
        headers: What every response carries beside its own headers.
    """
    keys, checks = services.settings.keys, _checks(services.settings, headers)
    app = _application([metrics.counting(numbers.tallies), answer_errors, *checks], headers)
    app[SERVICES] = services
    app[BACKGROUND] = background
    app[BOARD] = board
    app[METRICS] = numbers
    app[ADMISSION] = Admission(services.jobs.alive)
    app[DISCONNECTS] = Disconnects(enabled=services.settings.cancel_on_disconnect)
    app[WORKFLOWS] = _workflows(services)
    app[DOCUMENT] = Document(
        app[WORKFLOWS],
        needs_key=bool(keys),
        tables=services.settings.markdown_schema_descriptions,
    )
    for route in ROUTES:
        route.kwargs.setdefault("expect_handler", answer_expectation)
    app.add_routes(ROUTES)
    app.on_cleanup.append(_close)
    app[TEMPLATES] = {resource: resource.canonical for resource in app.router.resources()}
    return app


def _checks(settings: Settings, headers: Mapping[str, str]) -> list[Middleware]:
    """Return what a request has to pass before it is looked at."""
    checks = []
    if settings.hosts:
        checks.append(require_host_of(settings.hosts, PROBES))
    if CORS_HEADER not in headers:
        checks.append(refuse_unasked)
    if settings.keys:
        checks.append(require_key(settings.keys, PROBES))
    checks.append(refuse_unreadable)
    return checks


def _workflows(services: Services) -> Workflows:
    settings = services.settings
    return Workflows(
        services.engine,
        settings.workflow_dir,
        Loaders(settings.cache_dir, settings.workflow_node_packages, services.engine.variables()),
        is_expected="workflow_dir" in settings.model_fields_set,
    )


async def _close(app: web.Application) -> None:
    await app[WORKFLOWS].close()


def unavailable_app(
    error: StatelessError, *, headers: Mapping[str, str] = NO_HEADERS
) -> web.Application:
    """Return an application that answers everything with ``error``; the probes in their own way."""
    app = _application([answer_errors], headers)

    async def refuse(request: web.Request) -> web.Response:
        # Raised for every request: without this it would hold the frames of all of them.
        raise error.with_traceback(None)

    async def health(request: web.Request) -> web.Response:
        return handlers.unhealthy(Verdict(False, error.message))

    async def ready(request: web.Request) -> web.Response:
        return handlers.unready(Verdict(False, error.message))

    app.add_routes([web.get("/health", health), web.get("/ready", ready)])
    app.router.add_route("*", "/{path:.*}", refuse)
    return app


def _application(middlewares: Sequence[Middleware], headers: Mapping[str, str]) -> web.Application:
    app = web.Application(middlewares=middlewares)

    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update({**headers, "Cache-Control": "no-store"})

    app.on_response_prepare.append(note_begun)
    app.on_response_prepare.append(add_headers)
    return app
