"""Bridges WebSockets between clients and ComfyUI, message by message."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any, TypeAlias

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web
from multidict import CIMultiDict

from ..errors import BadGateway, NotFound, RequestError, StatelessError, Unavailable
from .forwarding import RETRY
from .headers import upstream_headers
from .upstream import Upstream

MESSAGE_BYTES = 256 * 1024 * 1024
"""The largest message, in either direction; ComfyUI itself takes 4 MiB."""

CLOSE_S = 2.0

_OF_THE_HANDSHAKE = "sec-websocket-"

_PASSED_ON = frozenset({WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG})

Client: TypeAlias = web.WebSocketResponse
Server: TypeAlias = "aiohttp.ClientWebSocketResponse[bool]"


@dataclass(frozen=True, slots=True)
class End:
    """How one side ended: with a code and a reason, or without a word (no code)."""

    source: Client | Server
    drain: Client | Server
    code: int | None
    reason: str = ""


async def bridge(
    request: web.BaseRequest, upstream: Upstream, target: str, bearer: str | None = None
) -> web.StreamResponse:
    """Connect a client's WebSocket with one of ComfyUI's, until either of them ends.

    Pings, and the code and the reason of an end, are passed on as they are. Where one side is gone
    without a word, the other is cut off.

    Args:
        bearer: A key to show to ComfyUI in place of what the client showed.

    Raises:
        StatelessError: The handshake is wrong, or ComfyUI took no WebSocket there.
    """
    if not web.WebSocketResponse().can_prepare(request).ok:
        raise RequestError("The handshake of the WebSocket is incomplete; see RFC 6455.")
    server = await _connect(request, upstream, target, bearer)
    client = web.WebSocketResponse(
        protocols=(server.protocol,) if server.protocol else (),
        autoping=False,
        autoclose=False,
        compress=False,
        max_msg_size=MESSAGE_BYTES,
        timeout=CLOSE_S,
    )
    try:
        await client.prepare(request)
        end = await _first_end(client, server)
        if end.code is not None:
            await _close(end.source, end.code)
            await _close(end.drain, end.code, end.reason)
        elif request.transport is not None:
            request.transport.abort()
    finally:
        await _close(server, WSCloseCode.GOING_AWAY)
    return client


async def _connect(
    request: web.BaseRequest, upstream: Upstream, target: str, bearer: str | None
) -> Server:
    headers: CIMultiDict[str] = CIMultiDict(
        (name, value)
        for name, value in upstream_headers(request).items()
        if not name.lower().startswith(_OF_THE_HANDSHAKE)
    )
    if bearer is not None:
        headers["Authorization"] = f"Bearer {bearer}"
    offered = ",".join(request.headers.getall("Sec-WebSocket-Protocol", ())).split(",")
    try:
        return await upstream.session.ws_connect(
            upstream.url(target, request.rel_url.raw_query_string),
            protocols=[name.strip() for name in offered if name.strip()],
            headers=headers,
            autoping=False,
            autoclose=False,
            max_msg_size=MESSAGE_BYTES,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
        )
    except aiohttp.ClientError as error:
        raise _refused(error) from error


def _refused(error: aiohttp.ClientError) -> StatelessError:
    if isinstance(error, aiohttp.ClientConnectorError):
        return Unavailable("ComfyUI takes no connections; try again.", headers=RETRY)
    if isinstance(error, aiohttp.WSServerHandshakeError) and error.status < 500:
        return NotFound(f"ComfyUI has no WebSocket there; it answered {error.status}.")
    return BadGateway("ComfyUI answered the WebSocket's handshake wrongly, or ended under it.")


async def _first_end(client: Client, server: Server) -> End:
    """Pass on what comes from both sides; return the end that came first."""
    ways = [asyncio.ensure_future(_pass_on(*pair)) for pair in ((server, client), (client, server))]
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _pass_on(source: Client | Server, drain: Client | Server) -> End:
    """Send on what comes, the next no sooner than the last is on its way; return the end."""
    try:
        while (message := await source.receive()).type in _PASSED_ON:
            await _send(drain, message.type, message.data)
    except (ConnectionError, aiohttp.ClientError):
        return End(source, drain, None)
    if message.type is WSMsgType.CLOSE:
        return End(source, drain, _code(message.data), message.extra or "")
    # What is too large, or no WebSocket's frame, has a code of its own, which ``source`` was told.
    is_known = message.type is WSMsgType.ERROR and isinstance(message.data, aiohttp.WebSocketError)
    return End(source, drain, message.data.code if is_known else None)


async def _send(drain: Client | Server, kind: WSMsgType, data: Any) -> None:
    if kind is WSMsgType.TEXT:
        await drain.send_str(data)
    elif kind is WSMsgType.BINARY:
        await drain.send_bytes(data)
    elif kind is WSMsgType.PING:
        await drain.ping(bytes(data))
    else:
        await drain.pong(bytes(data))


async def _close(side: Client | Server, code: int, reason: str = "") -> None:
    """Tell a side of the end; what does not answer in time, while it sends on, is cut off."""
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(side.close(code=code, message=reason.encode()), CLOSE_S)


def _code(received: int) -> int:
    """Return the code to send for one that was received; none at all is 0."""
    return received or WSCloseCode.OK
