"""Requests that bring files along as multipart/form-data, streamed to disk."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aiohttp import web

from ..errors import RequestError
from ..inputs import Uploaded
from ..media import HEAD_BYTES, extension, media_type
from .body import require_within
from .multipart import FormReader, PartHeaders

REQUEST_PART = "request"

MAX_FILES = 1000

BLOCK_BYTES = 1024 * 1024
"""Bytes of a file that are collected before a thread writes them."""

_PLAIN_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,15}\Z")

_AS_IT_IS = frozenset({"", "7bit", "8bit", "binary"})


@dataclass(frozen=True, slots=True)
class Form:
    """What came in a form: the request itself, and the files by the name of their part."""

    body: bytes
    files: Mapping[str, Uploaded]


async def read_form(request: web.Request, limit: int, folder: Callable[[], Path]) -> Form:
    """Read a form: the JSON in its part ``request``, and every other part as a file.

    Args:
        limit: The most bytes that the form may have, before and after decompression.
        folder: Makes and returns a folder for the files of this form alone; whoever owns it deletes
            it. They get names of ours in it, never the client's.

    Raises:
        TooLarge: It has more.
        RequestError: It is malformed, breaks off, has no request in it, or has parts without a
            name or of the same name.
    """
    require_within(request.content_length or 0, limit)
    reader = FormReader(request, limit)
    body: bytes | None = None
    files: dict[str, Uploaded] = {}
    while (headers := await reader.next_part()) is not None:
        _check(headers, files, body is not None)
        if headers.name == REQUEST_PART:
            body = b"".join([chunk async for chunk in reader.content()])
        else:
            path = await asyncio.to_thread(folder) / f"upload-{len(files)}"
            files[headers.name] = await _stored(headers, reader.content(), path)
    if body is None:
        raise RequestError(f"The form has no part {REQUEST_PART!r} with the request's JSON.")
    return Form(body, files)


def _check(headers: PartHeaders, files: Mapping[str, Uploaded], has_request: bool) -> None:
    name = headers.name
    if not name:
        raise RequestError("The form has a part without a name.")
    if name in files or (name == REQUEST_PART and has_request):
        raise RequestError(f"The form has more than one part of the name {name!r}.")
    if len(files) >= MAX_FILES and name != REQUEST_PART:
        raise RequestError(f"The form has more than {MAX_FILES} files.")
    if headers.media_type.startswith("multipart/"):
        raise RequestError(f"The part {name!r} is made of parts; give each file one of its own.")
    if headers.coding not in _AS_IT_IS:
        raise RequestError(f"The part {name!r} is encoded as {headers.coding!r}; send it as it is.")


async def _stored(headers: PartHeaders, content: AsyncIterator[bytes], path: Path) -> Uploaded:
    digest, head = hashlib.sha256(), b""
    with await asyncio.to_thread(path.open, "xb") as file:
        async for block in _blocks(content):
            head = head or bytes(block[:HEAD_BYTES])
            await asyncio.to_thread(_append, file, block, digest)
    return Uploaded(path, digest.hexdigest(), _extension(headers, head))


async def _blocks(content: AsyncIterator[bytes]) -> AsyncIterator[bytearray]:
    """Yield a part in blocks that are worth a thread."""
    block = bytearray()
    async for chunk in content:
        block += chunk
        if len(block) >= BLOCK_BYTES:
            yield block
            block = bytearray()
    if block:
        yield block


def _append(file: BinaryIO, block: bytearray, digest: hashlib._Hash) -> None:
    digest.update(block)
    file.write(block)


def _extension(headers: PartHeaders, head: bytes) -> str:
    """Return what a file's bytes, its client's name for it, or its declared type tell of it."""
    given = _PLAIN_EXTENSION.search(headers.filename)
    return (
        extension(media_type(headers.filename, head))
        or (given[0].lower() if given else "")
        or extension(headers.media_type)
        or ".bin"
    )
