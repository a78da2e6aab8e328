"""The clients' connections: what is refused before it is a request, and what waits too long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from ..errors import RequestError, StatelessError
from ..stalls import FIRST_REQUEST_S
from .answers import refusal

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

KEEP_ALIVE_S = 620.0
"""Longer than the load balancers in front of us keep a connection, so that they end it first."""


class Connection(web.RequestHandler):
    """A client's connection, which answers in the one shape also what is no HTTP."""

    def __init__(self, manager: web.Server, first_request_s: float, **options: Any) -> None:
        super().__init__(manager, **options)
        self._first_request_s = first_request_s
        self._first_request: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        self._first_request = loop.call_later(self._first_request_s, self.force_close)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.note_request()
        super().connection_lost(exc)

    def note_request(self) -> None:
        """Stop waiting for the first request."""
        if self._first_request is not None:
            self._first_request.cancel()
            self._first_request = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return what answers a request that cannot be read, or that we failed on."""
        self.note_request()
        if request.writer.output_size > 0:
            raise ConnectionError("The answer has begun.")
        if status >= 500:
            self.log_exception("A request failed in the gateway", exc_info=exc)
        response = refusal(request, _unreadable() if status < 500 else _failed())
        response.force_close()
        return response


class Server(web.Server):
    """Makes a ``Connection`` for each client.

    Args:
        handler: Answers a request.
        options: More of each connection's.
    """

    def __init__(
        self, handler: Handler, *, first_request_s: float = FIRST_REQUEST_S, **options: Any
    ) -> None:
        async def noted(request: web.BaseRequest) -> web.StreamResponse:
            connection = request.protocol
            assert isinstance(connection, Connection)
            connection.note_request()
            return await handler(request)

        # Cancelled, a handler gives up its own connection to ComfyUI: so hanging up is passed on.
        super().__init__(noted, handler_cancellation=True)
        self._options = {
            "access_log": None,
            "auto_decompress": False,
            "keepalive_timeout": KEEP_ALIVE_S,
            **options,
        }
        self._first_request_s = first_request_s

    def __call__(self) -> web.RequestHandler:
        loop = asyncio.get_running_loop()
        return Connection(self, self._first_request_s, loop=loop, **self._options)


def _unreadable() -> RequestError:
    return RequestError(
        "This is no HTTP/1.1 request that can be read: its first line, its headers or the framing "
        "of its body are wrong, or a line is longer than 8190 bytes."
    )


def _failed() -> StatelessError:
    return StatelessError("The gateway failed; its log says why.")
