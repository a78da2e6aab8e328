"""Sending bodies of any size in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from io import BytesIO

from aiohttp import web

from ..bodies import Body, Part
from ..stalls import being_read

WHOLE_BYTES = 64 * 1024
"""Bodies of at most this many bytes are sent in one piece."""

Send = Callable[[bytes | memoryview], Awaitable[None]]
"""Takes the next bytes, and waits while the client is slow."""


async def send_part(part: Part, send: Send) -> None:
    """Send a part; what waits for a disk is read in a thread.

    Raises:
        OSError: An output's file cannot be read.
    """
    chunks = part.chunks()
    if not part.blocks:
        for chunk in chunks:
            await send(chunk)
        return
    while (read := await asyncio.to_thread(next, chunks, None)) is not None:
        await send(read)


async def respond(
    request: web.Request,
    body: Body,
    media_type: str,
    headers: Mapping[str, str],
    release: Callable[[], Awaitable[None]],
) -> web.StreamResponse:
    """Answer 200 with ``body``, its length announced, so that a broken transfer is seen as one.

    Args:
        release: Called when the outputs have been read, before the last bytes are sent: a client
            that has its answer finds nothing of the job left.

    Raises:
        ConnectionError: The client has gone.
        OSError: An output's file cannot be read.
    """
    size = sum(part.size for part in body)
    headers = {**headers, "Content-Type": media_type}
    if size <= WHOLE_BYTES:
        return web.Response(body=await _whole(body), headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_length = size
    await response.prepare(request)
    held: bytes | memoryview = b""

    async def send(chunk: bytes | memoryview) -> None:
        nonlocal held
        with being_read(request):
            await response.write(held)
        held = chunk

    for part in body:
        await send_part(part, send)
    await release()
    with being_read(request):
        await response.write_eof(bytes(held))
    return response


async def _whole(body: Body) -> bytes:
    if not any(part.blocks for part in body):
        return b"".join(chunk for part in body for chunk in part.chunks())
    buffer = BytesIO()

    async def keep(chunk: bytes | memoryview) -> None:
        buffer.write(chunk)

    for part in body:
        await send_part(part, keep)
    return buffer.getvalue()
