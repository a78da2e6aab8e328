"""Sending bodies of any size in bounded memory: lists of parts whose lengths are known."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Protocol

import pybase64
from aiohttp import web

from ..engine import OutputFile

CHUNK_BYTES = 768 * 1024
"""Bytes of an output that are sent at a time: a multiple of three, so that base64 can be cut."""

WHOLE_BYTES = 64 * 1024
"""Bodies of at most this many bytes are sent in one piece."""

Send = Callable[[bytes | memoryview], Awaitable[None]]
"""Takes the next bytes, and waits while the client is slow."""


class Part(Protocol):
    """A part of a body."""

    @property
    def size(self) -> int: ...

    async def write(self, send: Send) -> None:
        """Send exactly ``size`` bytes."""


Body = Sequence[Part]


@dataclass(frozen=True, slots=True)
class Text:
    """Bytes that are there already."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    async def write(self, send: Send) -> None:
        await send(self.data)


@dataclass(frozen=True, slots=True)
class Raw:
    """An output's bytes as they are."""

    output: OutputFile

    @property
    def size(self) -> int:
        return self.output.size

    async def write(self, send: Send) -> None:
        await each_chunk(self.output, send)


@dataclass(frozen=True, slots=True)
class Base64:
    """An output's bytes in base64."""

    output: OutputFile

    @property
    def size(self) -> int:
        return 4 * -(-self.output.size // 3)

    async def write(self, send: Send) -> None:
        await each_chunk(self.output, lambda chunk: send(pybase64.b64encode(chunk)))


async def each_chunk(output: OutputFile, send: Send) -> None:
    """Send an output in chunks of ``CHUNK_BYTES``, the last one shorter.

    Raises:
        OSError: Its file cannot be read, or is shorter than the output's size.
    """
    if isinstance(output.body, bytes):
        view = memoryview(output.body)
        for start in range(0, output.size, CHUNK_BYTES):
            await send(view[start : start + CHUNK_BYTES])
        return
    left = output.size
    with await asyncio.to_thread(output.body.open, "rb") as file:
        while left:
            chunk = await asyncio.to_thread(file.read, min(CHUNK_BYTES, left))
            if not chunk:
                raise OSError(f"{output.body} ended {left} bytes early")
            left -= len(chunk)
            await send(chunk)


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
        await response.write(held)
        held = chunk

    for part in body:
        await part.write(send)
    await release()
    await response.write_eof(bytes(held))
    return response


async def _whole(body: Body) -> bytes:
    buffer = BytesIO()

    async def keep(chunk: bytes | memoryview) -> None:
        buffer.write(chunk)

    for part in body:
        await part.write(keep)
    return buffer.getvalue()
