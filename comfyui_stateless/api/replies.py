"""From a result to the 200 of a prompt, in the form that the client takes."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from aiohttp import web

from ..bodies import Body, Part, Raw, Text, json_body, json_elsewhere
from ..engine import PromptResult
from ..naming import header_id
from .negotiation import Accept, Form, choose
from .streams import respond


async def reply(
    request: web.Request,
    result: PromptResult,
    accept: Accept,
    release: Callable[[], Awaitable[None]],
) -> web.StreamResponse:
    """Answer ``request`` with ``result``.

    Args:
        release: Gives up the files of the result; called before the last bytes are sent.

    Raises:
        NotAcceptable: The outputs cannot be given in a form that the client takes.
    """
    offer = choose(accept, result.outputs)
    headers = {"X-Prompt-Id": header_id(result.id)}
    if offer.form is Form.JSON:
        body, media_type = json_body(result), f"{offer.media_type}; charset=utf-8"
    elif offer.form is Form.MULTIPART:
        boundary = f"stateless-{uuid.uuid4().hex}"
        body = multipart_body(result, boundary)
        media_type = f'{offer.media_type}; boundary="{boundary}"'
    elif offer.form is Form.ZIP:
        body, media_type = await zip_body(result), offer.media_type
        headers["Content-Disposition"] = disposition("attachment", f"{header_id(result.id)}.zip")
    else:
        (output,) = result.outputs
        body, media_type = [Raw(output)], offer.media_type
        headers["Content-Disposition"] = disposition("inline", output.filename)
    return await respond(request, body, media_type, headers, release)


def multipart_body(result: PromptResult, boundary: str) -> Body:
    """Return the JSON as the first part, then each output as it is.

    In the JSON ``images`` holds the ``cid:`` URL (RFC 2392) of each output's part.
    """
    ids = [f"output-{number}" for number, _ in enumerate(result.outputs, 1)]
    document = json_elsewhere(result, [f"cid:{content_id}" for content_id in ids])
    parts: list[Part] = [Text(_part_head(boundary, "application/json", len(document)) + document)]
    for content_id, output in zip(ids, result.outputs, strict=True):
        head = _part_head(
            boundary,
            output.media_type,
            output.size,
            ("Content-ID", f"<{content_id}>"),
            ("Content-Disposition", disposition("attachment", output.filename)),
        )
        parts += [Text(b"\r\n" + head), Raw(output)]
    return [*parts, Text(f"\r\n--{boundary}--\r\n".encode())]


async def zip_body(result: PromptResult) -> Body:
    """Return an archive of ``response.json`` and the outputs.

    In the JSON ``images`` holds the name of each output's entry.
    """
    from .archive import archive, entry_names  # late, as few ask for archives

    names = entry_names(output.filename for output in result.outputs)
    document = json_elsewhere(result, names)
    return await archive(document, list(zip(names, result.outputs, strict=True)))


def disposition(kind: str, filename: str) -> str:
    """Return a Content-Disposition for a file's bare name, by RFC 6266.

    Args:
        kind: ``inline`` or ``attachment``.
        filename: May have folders, which are left out, and any characters.
    """
    name = filename.rpartition("/")[2]
    plain = "".join(c if _is_plain(c) else "_" for c in name)
    return (
        f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
    )


def _is_plain(character: str) -> bool:
    return character.isascii() and character.isprintable() and character not in '"\\%'


def _part_head(boundary: str, media_type: str, size: int, *headers: tuple[str, str]) -> bytes:
    fields = (("Content-Type", media_type), ("Content-Length", str(size)), *headers)
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"--{boundary}\r\n{lines}\r\n".encode("ascii")
