"""Answers that are sent while a body still comes that nobody is to read."""

from __future__ import annotations

import asyncio

from aiohttp import web

LINGER_S = 10.0
"""As long as aiohttp waits for a body that it may unpack."""


async def send_and_drop(request: web.Request, response: web.StreamResponse) -> None:
    """Send a response whole, and drop what comes until the client has done, or is told to.

    Closing a connection with bytes in it that nobody has read resets it, and a client that still
    sends would lose the answer. What comes is not unpacked: that could take for ever.
    """
    await response.prepare(request)
    await response.write_eof()
    transport = request.transport
    if transport is None or transport.is_closing():
        return
    dropping = _Dropping(transport.get_protocol())
    transport.set_protocol(dropping)
    transport.resume_reading()
    if transport.can_write_eof():
        transport.write_eof()
    await asyncio.wait([dropping.ended], timeout=LINGER_S)


class _Dropping(asyncio.Protocol):
    """Takes the place of a connection's protocol, which still hears of the connection's end."""

    def __init__(self, before: asyncio.BaseProtocol) -> None:
        self._before = before
        self.ended = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        """Drop it."""

    def pause_writing(self) -> None:
        self._before.pause_writing()

    def resume_writing(self) -> None:
        self._before.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._before.connection_lost(exc)
        if not self.ended.done():
            self.ended.set_result(None)
