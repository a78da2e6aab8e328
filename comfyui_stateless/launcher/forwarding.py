"""Passes requests on to ComfyUI and its answers back, without holding either."""

from __future__ import annotations

import logging
import socket
import struct
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import aiohttp
from aiohttp import web

from ..errors import BadGateway, RequestError, StatelessError, Unavailable
from ..stalls import being_read
from .headers import client_headers, upstream_headers
from .upstream import Upstream

log = logging.getLogger("comfyui_stateless.gateway")

SMALL_BYTES = 64 * 1024
"""Bodies of a known length up to this are sent in one piece, together with their headers."""

_RESET = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""Of SO_LINGER: closing resets the connection."""

RETRY = {"Retry-After": "5"}


class Incoming:
    """The body of a request, on its way to ComfyUI.

    Attributes:
        failure: What was wrong with it as it came, None as long as nothing was.
    """

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._is_begun = False
        self.failure: Exception | None = None

    async def body(self) -> bytes | Incoming | None:
        """Return the body: as it is if it is small, else this, to be iterated over."""
        if not self._request.body_exists:
            return None
        length = self._request.content_length
        if length is None or length > SMALL_BYTES:
            return self
        return b"".join([chunk async for chunk in self])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._is_begun:
            # aiohttp tries some requests again, and would send a body without its beginning.
            raise RuntimeError("The body has been sent already.")
        self._is_begun = True
        try:
            await self._invite()
            async for chunk in self._request.content.iter_any():
                yield chunk
        except Exception as error:
            self.failure = error
            raise

    async def _invite(self) -> None:
        """Ask for the body of a client that waits to be asked."""
        if self._request.headers.get("Expect", "").lower() == "100-continue":
            writer = self._request.writer
            await writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            writer.output_size = 0


async def forward(
    request: web.BaseRequest, upstream: Upstream, target: str, bearer: str | None = None
) -> web.StreamResponse:
    """Send a request to a path of ComfyUI's, and its answer to the client.

    If the client hangs up, this is cancelled, which closes the connection to ComfyUI.

    Args:
        bearer: A key to show there in place of what the client showed.

    Raises:
        Unavailable: ComfyUI takes no connections; it has seen nothing of the request.
        BadGateway: It ended, or answered nonsense, before its answer began.
        RequestError: The client's body is broken.
    """
    headers = upstream_headers(request)
    if bearer is not None:
        headers["Authorization"] = f"Bearer {bearer}"
    incoming = Incoming(request)
    with _translated(incoming):
        body = await incoming.body()
        if body is incoming and request.content_length is not None:
            headers["Content-Length"] = str(request.content_length)
        async with upstream.session.request(
            request.method,
            upstream.url(target, request.rel_url.raw_query_string),
            data=body,
            headers=headers,
            allow_redirects=False,
        ) as answer:
            if is_small(request, answer):
                return await _whole(request, answer)
            return await _streamed(request, answer)


def is_small(request: web.BaseRequest, answer: aiohttp.ClientResponse) -> bool:
    """Say whether an answer has a body of a known, small length."""
    length = answer.content_length
    return length is not None and length <= SMALL_BYTES and request.method != "HEAD"


async def _whole(request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    body = await answer.content.read()
    response = web.Response(
        status=answer.status,
        reason=answer.reason,
        headers=client_headers(answer.headers),
        body=body,
    )
    _end_with(request, response)
    return response


async def _streamed(request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(
        status=answer.status, reason=answer.reason, headers=client_headers(answer.headers)
    )
    _end_with(request, response)
    await response.prepare(request)
    try:
        async for chunk in answer.content.iter_any():
            with being_read(request):
                await response.write(chunk)
    except (aiohttp.ClientError, ConnectionError) as error:
        _cut(request, response, error)
    return response


def _end_with(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Let the connection end with an answer that came before the whole request."""
    if not request.content.is_eof():
        response.force_close()


def _cut(request: web.BaseRequest, response: web.StreamResponse, error: Exception) -> None:
    """Break the connection off: an answer that stays short must not look like a whole one."""
    transport = request.transport
    if transport is None or transport.is_closing():
        return
    log.warning("ComfyUI broke off an answer, so it was cut: %s", type(error).__name__)
    if request.version < (1, 1) and response.content_length is None:
        # This answer ends with its connection: only a reset tells that something is missing.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
    else:
        transport.close()


@contextmanager
def _translated(incoming: Incoming) -> Iterator[None]:
    """Turn what goes wrong between us and ComfyUI into errors that the client can act on."""
    try:
        yield
    except StatelessError:
        raise
    except (aiohttp.ClientError, ConnectionError, web.RequestPayloadError, ValueError) as error:
        raise _error(incoming, error) from error


def _error(incoming: Incoming, error: Exception) -> StatelessError:
    if incoming.failure is not None:
        return RequestError("The body of the request broke off, or is not framed as HTTP has it.")
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
        return Unavailable(
            "ComfyUI takes no connections: it starts, or has ended and will be started again. "
            "It has seen nothing of the request.",
            headers=RETRY,
        )
    log.warning("A request got no answer from ComfyUI: %s", type(error).__name__)
    if isinstance(error, (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError)):
        return BadGateway(
            "ComfyUI ended before it had answered, and will be started again. Send the request "
            "once more; whether it was begun is not known."
        )
    return BadGateway("ComfyUI's answer was no valid HTTP; its log may say why.")
