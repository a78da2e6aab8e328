"""The prompt that a client has posted, as JSON or as a form with files."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import NamedTuple

from aiohttp import web

from ..errors import RequestError
from ..inputs import Uploaded
from ..journal import IdempotencyKey
from ..pipeline import Services
from ..requests import PromptRequest, parse_prompt
from .body import is_form, parsed, read_body
from .state import ADMISSION

KEY_HEADER = "Idempotency-Key"
MAX_KEY_LENGTH = 255


class Posted(NamedTuple):
    """What came in.

    Attributes:
        uploads: The files of a form, by the name of their part.
        key: The Idempotency-Key, None if there is none.
    """

    request: PromptRequest
    uploads: Mapping[str, Uploaded]
    key: IdempotencyKey | None


async def read_prompt(request: web.Request, services: Services, stack: AsyncExitStack) -> Posted:
    """Read the body of a prompt; its files live as long as ``stack``.

    Raises:
        RequestError: It is no such request; a subclass says how.
    """
    body, uploads = await read_parts(request, services, stack)
    return Posted(await parsed(body, parse_prompt), uploads, key_of(request, body, uploads))


async def read_parts(
    request: web.Request, services: Services, stack: AsyncExitStack
) -> tuple[bytes, Mapping[str, Uploaded]]:
    """Return the JSON of a request and the files that came with it, which ``stack`` keeps.

    Where many come at once, this returns when it is this one's turn.

    Raises:
        RequestError: The body cannot be read; a subclass says how.
        Unavailable: The server began to shut down meanwhile.
    """
    parts: tuple[bytes, Mapping[str, Uploaded]]
    if is_form(request):
        parts = await _read_form(request, services, stack)
    else:
        parts = await read_body(request, services.settings.max_body_bytes), {}
    admission = request.app[ADMISSION]
    if not admission.is_open():
        await admission.wait()
        services.readiness.require()
    return parts


async def _read_form(
    request: web.Request, services: Services, stack: AsyncExitStack
) -> tuple[bytes, Mapping[str, Uploaded]]:
    from .forms import read_form  # late, as most requests are JSON

    folder = await stack.enter_async_context(services.engine.workspace(str(uuid.uuid4())))
    form = await read_form(request, services.settings.max_body_bytes, folder.folder)
    return form.body, form.files


def key_of(
    request: web.Request, body: bytes, uploads: Mapping[str, Uploaded], route: str = ""
) -> IdempotencyKey | None:
    """Return a request's Idempotency-Key, None if it has none.

    Args:
        route: Stands for the place that it was sent to, where there are several.

    Raises:
        RequestError: The key is too long, or no text.
    """
    key = request.headers.get(KEY_HEADER, "").strip()
    if not key:
        return None
    if len(key) > MAX_KEY_LENGTH:
        raise RequestError(f"{KEY_HEADER} has more than {MAX_KEY_LENGTH} characters.")
    if not _is_text(key):
        raise RequestError(f"{KEY_HEADER} is not UTF-8 text.")
    digest = hashlib.sha256(f"{route}\0".encode() + body if route else body)
    for name, file in sorted(uploads.items()):
        digest.update(f"\0{name}\0{file.digest}".encode())
    return IdempotencyKey(key, digest.hexdigest())


def _is_text(header: str) -> bool:
    """Say whether a header's bytes, of which those that are no UTF-8 are kept as they are, are text."""
    try:
        header.encode()
    except UnicodeEncodeError:
        return False
    return True
