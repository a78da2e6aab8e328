"""`GET /metrics`: what Prometheus, and whoever reads its format, scrapes."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from ..metrics import Tallies
from .state import METRICS, TEMPLATES

OTHER = "other"
"""What requests are counted under that no route has taken."""


async def metrics(request: web.Request) -> web.Response:
    """Answer a scrape."""
    accept = ", ".join(request.headers.getall("Accept", ()))
    encodings = ", ".join(request.headers.getall("Accept-Encoding", ()))
    page = await request.app[METRICS].page(accept, encodings)
    return web.Response(body=page.body, headers=page.headers)


def counting(tallies: Tallies) -> Middleware:
    """Return a middleware that counts every answer; it stands before all others."""

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
        except web.HTTPException as redirect:
            tallies.answered(*_route(request), redirect.status)
            raise
        tallies.answered(*_route(request), response.status)
        return response

    return count


def _route(request: web.Request) -> tuple[str, str]:
    """Return the method and the template of the route that has taken a request."""
    route = request.match_info.route
    template = None if route.resource is None else request.app[TEMPLATES].get(route.resource)
    return (OTHER, OTHER) if template is None else (route.method, template)
