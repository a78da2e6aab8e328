"""Clients that keep a connection and do nothing with it: each wait for one has an end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

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
