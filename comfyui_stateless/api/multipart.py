"""The syntax of multipart/form-data (RFC 7578, RFC 2046 section 5.1), read as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.message import Message
from email.parser import HeaderParser
from email.utils import collapse_rfc2231_value

from aiohttp import web

from ..errors import RequestError
from ..stalls import next_bytes
from .body import read_before, require_within

MAX_BOUNDARY_CHARACTERS = 70

MAX_HEADER_BYTES = 16 * 1024
"""Bytes that the headers of one part may have."""


class PartHeaders:
    """What the headers of a part say of it; empty where they say nothing.

    Raises:
        RequestError: A name is asked for, and is encoded in what encodes no text.
    """

    def __init__(self, headers: bytes) -> None:
        self._message = HeaderParser().parsestr(headers.decode("utf-8", "replace"))

    @property
    def name(self) -> str:
        return self._disposition("name")

    @property
    def filename(self) -> str:
        return self._disposition("filename")

    @property
    def media_type(self) -> str:
        return self._message.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def coding(self) -> str:
        """The Content-Transfer-Encoding."""
        return self._message.get("Content-Transfer-Encoding", "").strip().lower()

    def _disposition(self, parameter: str) -> str:
        value = self._message.get_param(parameter, "", header="Content-Disposition")
        try:
            text = collapse_rfc2231_value(value)
        except ValueError:
            raise RequestError(
                f"The form is malformed: a part has a {parameter} in no text."
            ) from None
        # Some clients escape spaces; no client escapes more than those, quotes and backslashes.
        return text.replace("\\ ", " ")


class FormReader:
    """Takes a form apart: ``next_part``, then ``content``, until there is no part any more.

    Args:
        limit: The most bytes that the whole form may have, decompressed.

    Raises:
        RequestError: The request names no boundary.
    """

    def __init__(self, request: web.Request, limit: int) -> None:
        self._request = request
        self._delimiter = b"\r\n--" + _boundary(request.headers.get("Content-Type", ""))
        self._limit = limit
        self._size = 0
        self._buffer = bytearray(b"\r\n")  # the first delimiter may stand at the very beginning
        self._is_inside = True

    async def next_part(self) -> PartHeaders | None:
        """Go on to the next part; return its headers, None if there is none.

        What is left of the part before is skipped.

        Raises:
            RequestError: The form is malformed or breaks off.
            TooLarge: It is longer than the limit.
        """
        async for _ in self.content():
            pass
        while len(self._buffer) < 2:
            await self._read()
        if self._buffer.startswith(b"--"):
            return None
        if (await self._line()).strip(b" \t"):
            raise RequestError("The form is malformed: a boundary goes on with something else.")
        headers = bytearray()
        while line := await self._line():
            headers += line + b"\r\n"
            if len(headers) > MAX_HEADER_BYTES:
                raise _long_headers()
        self._is_inside = True
        return PartHeaders(bytes(headers))

    async def content(self) -> AsyncIterator[bytes]:
        """Yield the content of the part, as it comes.

        Raises:
            RequestError: The form breaks off.
            TooLarge: It is longer than the limit.
        """
        while self._is_inside:
            end = self._buffer.find(self._delimiter)
            if end >= 0:
                self._is_inside = False
                chunk = self._take(end, len(self._delimiter))
            else:
                chunk = self._take(max(0, len(self._buffer) - len(self._delimiter) + 1))
            if chunk:
                yield chunk
            if self._is_inside:
                await self._read()

    async def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0 and len(self._buffer) <= MAX_HEADER_BYTES:
            await self._read()
        if not 0 <= end <= MAX_HEADER_BYTES:
            raise _long_headers()
        return self._take(end, 2)

    def _take(self, size: int, skipped: int = 0) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[: size + skipped]
        return taken

    async def _read(self) -> None:
        try:
            chunk = await next_bytes(self._request)
            if not chunk and not self._size:
                chunk = await read_before(self._request, self._limit)
        except (web.RequestPayloadError, ConnectionError):
            chunk = b""
        if not chunk:
            raise RequestError("The form breaks off before its last boundary.")
        self._size += len(chunk)
        require_within(self._size, self._limit)
        self._buffer += chunk


def _boundary(content_type: str) -> bytes:
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary("")
    if not 0 < len(boundary) <= MAX_BOUNDARY_CHARACTERS:
        raise RequestError("The request's Content-Type has no boundary, or one that is too long.")
    return boundary.encode("utf-8", "surrogateescape")


def _long_headers() -> RequestError:
    return RequestError(
        f"The form is malformed: the headers of a part have more than {MAX_HEADER_BYTES:,} bytes."
    )
