"""The one place where errors become responses, and where API keys are checked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from contextvars import ContextVar

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from ..errors import (
    ExpectationFailed,
    MethodNotAllowed,
    NotFound,
    StatelessError,
    Unauthorized,
    full_disk,
)
from ..hosts import require_host
from ..keys import accepts, encoded, shown
from ..origins import require_asked
from ..packing import has_lost_its_body
from ..wire import to_json
from .disconnects import is_gone
from .lingering import send_and_drop
from .unreadable import invite

log = logging.getLogger("comfyui_stateless.api")

WORTH_READING_BYTES = 64 * 1024

_begun: ContextVar[web.StreamResponse | None] = ContextVar("stateless_begun", default=None)
"""The response of the request at hand, once its headers are on their way."""


async def note_begun(request: web.Request, response: web.StreamResponse) -> None:
    """Remember a response that can no longer be replaced; for ``on_response_prepare``."""
    _begun.set(response)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error in the one shape."""
    try:
        response = await _response(request, handler)
        if _is_packed(request) or has_lost_its_body(request):
            await send_and_drop(request, response)
        return response
    finally:
        if _is_packed(request):
            # aiohttp would wait for the rest, and unpack it. This ends that without a word.
            request.content.set_exception(asyncio.TimeoutError())


async def answer_expectation(request: web.Request) -> web.StreamResponse | None:
    """Invite the body, or refuse what else is expected; for a route's ``expect_handler``."""
    try:
        await invite(request)
    except ExpectationFailed as error:
        return _answer(request, error)
    return None


async def _response(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except StatelessError as error:
        return _answer(request, error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _answer(request, _translated(request, error))
    except Exception as error:
        if isinstance(error, ConnectionError) and is_gone(request):
            return _begun.get() or web.Response(status=499)
        log.error("A request failed", exc_info=error)
        failure = full_disk(error) or StatelessError("The server failed; its log says why.")
        return _answer(request, failure)


def _is_packed(request: web.Request) -> bool:
    """Whether the body is compressed and has not come to its end.

    aiohttp would unpack it for ten seconds, in which nobody else is served: it may have no end.
    """
    return "Content-Encoding" in request.headers and not request.content.is_eof()


def require_key(keys: Sequence[str], open_routes: frozenset[str]) -> Middleware:
    """Return a middleware that lets only callers in who show one of ``keys``.

    Args:
        open_routes: Names of the routes that need none.
    """
    accepted = encoded(keys)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not _is_one_of(request, open_routes) and not accepts(accepted, shown(request.headers)):
            raise Unauthorized(
                "This server needs an API key, as `Authorization: Bearer <key>` or "
                "`X-API-Key: <key>`.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return await handler(request)

    return check


def require_host_of(allowed: Collection[str], open_routes: frozenset[str]) -> Middleware:
    """Return a middleware that refuses who calls the server by a name that is not ``allowed``.

    Args:
        open_routes: Names of the routes that may be called by any.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not _is_one_of(request, open_routes):
            require_host(request.headers, allowed)
        return await handler(request)

    return check


@web.middleware
async def refuse_unasked(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what pages of other origins post without the browser asking us first."""
    require_asked(request.method, request.headers)
    return await handler(request)


def _is_one_of(request: web.Request, names: frozenset[str]) -> bool:
    resource = request.match_info.route.resource
    return resource is not None and resource.name in names


def _translated(request: web.Request, error: web.HTTPException) -> StatelessError:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = error.headers["Allow"]
        return MethodNotAllowed(
            f"{_path(request)} does not take {request.method}, but {allowed}.",
            headers={"Allow": allowed},
        )
    if isinstance(error, web.HTTPNotFound):
        return NotFound(f"There is no route {_path(request)}; the docs route lists all there are.")
    log.error("An unexpected HTTP error", exc_info=error)
    return StatelessError("The server failed; its log says why.")


def _path(request: web.Request) -> str:
    """Return the path that the client asked for: a gateway in front may have another one."""
    return request.headers.get("X-Forwarded-Uri", request.path).partition("?")[0]


def _answer(request: web.Request, error: StatelessError) -> web.StreamResponse:
    begun = _begun.get()
    if begun is not None:
        return _break_off(request, begun, error)
    response = web.Response(
        status=error.status,
        body=to_json(error.body()),
        headers={**error.headers, "Content-Type": "application/json; charset=utf-8"},
    )
    if _has_much_to_come(request):
        response.force_close()
    return response


def _has_much_to_come(request: web.Request) -> bool:
    """Whether so much of the body is unread that waiting for it is not worth the connection."""
    length = request.content_length
    return not request.content.is_eof() and (length is None or length > WORTH_READING_BYTES)


def _break_off(
    request: web.Request, begun: web.StreamResponse, error: StatelessError
) -> web.StreamResponse:
    """Close the connection: a response that stays short must not look like a whole one."""
    log.error("A response broke off: %s", ascii(error.message))
    if request.transport is not None:
        request.transport.close()
    return begun
