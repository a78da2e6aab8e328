"""Clients that keep a connection and do nothing with it: each wait for one has an end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary, WeakSet

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

FIRST_REQUEST_S = 60.0
"""In which the first request of a connection has to be there, up to the end of its headers."""

LOOKS = 6
"""Within that time, where a server that is not ours is looked at: so late may its end be."""

SILENT_S = 60.0
"""Within which the next bytes of a body have to come."""

UNREAD_S = 300.0
"""Within which what was sent last has to be read."""


async def next_bytes(request: web.BaseRequest) -> bytes:
    """Return the next bytes of a body, as many as are there; none is its end.

    Raises:
        RequestPayloadError: None have come for ``SILENT_S``, or the body is broken.
        ConnectionError: The client has gone.
    """
    if request.content.is_eof():  # all of it is here, as with most requests: no wait, no timer
        return await request.content.readany()
    reason = web.RequestPayloadError(f"nothing more of it came within {SILENT_S:g} seconds")
    timer = asyncio.get_running_loop().call_later(SILENT_S, request.content.set_exception, reason)
    try:
        return await request.content.readany()
    finally:
        timer.cancel()


@contextmanager
def being_read(request: web.BaseRequest) -> Iterator[None]:
    """End the connection if what is written inside the block is not read within ``UNREAD_S``.

    What is being written then raises a ConnectionError, as where a client hangs up.
    """
    transport = request.transport
    if transport is None:
        yield
        return
    timer = asyncio.get_running_loop().call_later(UNREAD_S, transport.abort)
    try:
        yield
    finally:
        timer.cancel()


def first_requests_within(seconds: float) -> Middleware:
    """Return the first middleware of a server whose connections have to bring a request in time.

    aiohttp limits the time between two requests of a connection, and not that before the first.
    A server that is made elsewhere is known, and looked at, from its first request on. What has
    brought one, as each WebSocket has, is left alone.
    """
    watch: _Watch | None = None

    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal watch
        if watch is None:
            watch = _Watch(request.protocol, seconds)
        if request.transport is not None:
            watch.asked.add(request.transport)
        return await handler(request)

    return note


class _Watch:
    """Looks at all connections of a server again and again, as long as its loop runs.

    Args:
        one: Any of them.

    Attributes:
        asked: Those that have brought a request.
    """

    def __init__(self, one: web.RequestHandler, seconds: float) -> None:
        self.asked: WeakSet[asyncio.BaseTransport] = WeakSet()
        self._since: WeakKeyDictionary[asyncio.BaseTransport, float] = WeakKeyDictionary()
        # Only it knows them all; each request has this way to it, and ComfyUI keeps none.
        self._server: web.Server | None = getattr(one, "_manager", None)
        self._seconds = seconds
        self._look()

    def _look(self) -> None:
        if self._server is None:
            return  # an aiohttp that has it elsewhere
        loop = asyncio.get_running_loop()
        loop.call_later(self._seconds / LOOKS, self._look)
        now = loop.time()
        for connection in self._server.connections:
            transport = connection.transport
            if transport is None or transport in self.asked:
                continue
            if now - self._since.setdefault(transport, now) >= self._seconds:
                connection.force_close()
