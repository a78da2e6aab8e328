"""Requests that cannot be read, wholly or at all, though aiohttp hands them over."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from ..errors import ExpectationFailed
from ..packing import HTTP_1_1, require_body, require_known_packing, require_known_version


@web.middleware
async def refuse_unreadable(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what is no HTTP/1, and bodies that are compressed in a way in which none is read."""
    require_known_version(request.version)
    if "Content-Encoding" in request.headers and request.body_exists:
        require_known_packing(request.headers)
    require_body(request)
    return await handler(request)


async def invite(request: web.Request) -> None:
    """Tell a client that waits for it to send the body.

    Raises:
        ExpectationFailed: It waits for something else (RFC 9110, section 10.1.1).
    """
    if request.version < HTTP_1_1:
        return
    expected = request.headers.get("Expect", "")
    if expected.lower() != "100-continue":
        raise ExpectationFailed(f"Nothing but 100-continue can be expected, not {expected[:40]!a}.")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # that of the answer is yet to be counted
