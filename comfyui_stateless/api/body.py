"""Reading the body of a request, within the limit of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from aiohttp import web

from ..errors import RequestError, TooLarge, UnsupportedMediaType
from ..stalls import next_bytes

THREAD_FROM_BYTES = 1024 * 1024
"""Bodies of more bytes than this are parsed in a thread."""

T = TypeVar("T")


def is_form(request: web.Request) -> bool:
    """Say whether a request is a form with files."""
    return request.content_type == "multipart/form-data"


async def read_body(request: web.Request, limit: int) -> bytes:
    """Return the whole body, decompressed.

    Args:
        limit: The most bytes that it may have, before and after decompression.

    Raises:
        TooLarge: It has more.
        UnsupportedMediaType: It is a form with files.
        RequestError: It breaks off, or is not compressed as its header says.
    """
    if request.content_type.startswith("multipart/"):
        raise UnsupportedMediaType(
            f"This route reads JSON, not {request.content_type}: send the request as the body, "
            "with Content-Type: application/json."
        )
    require_within(request.content_length or 0, limit)
    body = bytearray()
    try:
        while chunk := await next_bytes(request):
            body += chunk
            require_within(len(body), limit)
    except web.RequestPayloadError as error:
        raise RequestError(f"The body cannot be read: {_why(request, error)}.") from None
    return bytes(body) or await read_before(request, limit)


def _why(request: web.Request, error: web.RequestPayloadError) -> str:
    if "Content-Encoding" in request.headers and not str(error).startswith("nothing more"):
        return "it is not compressed as its Content-Encoding says, or is cut short"
    return str(error)


async def read_before(request: web.Request, limit: int) -> bytes:
    """Return the body where another pack's middleware has read it, else nothing.

    For when the content has come to its end without a byte.

    Raises:
        TooLarge: It has more bytes than ``limit``.
    """
    body = await request.read()
    require_within(len(body), limit)
    return body


async def parsed(body: bytes, parse: Callable[[bytes], T]) -> T:
    """Return ``parse(body)``, computed in a thread where the body is large."""
    if len(body) > THREAD_FROM_BYTES:
        return await asyncio.to_thread(parse, body)
    return parse(body)


def require_within(size: int, limit: int) -> None:
    """Raise ``TooLarge`` if ``size``, in bytes, is over ``limit``."""
    if size > limit:
        raise TooLarge(f"The body is larger than the {limit} bytes that MAX_BODY_SIZE_MB allows.")
