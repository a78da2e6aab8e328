"""The headers of what is passed on, in both directions."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

_OF_THE_CONNECTION = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""They hold between two neighbours only: RFC 9110, section 7.6.1."""

_NOT_UPSTREAM = _OF_THE_CONNECTION | {
    # The body is framed anew, and its sender invited by us.
    "content-length",
    "expect",
    "host",
    # ComfyUI would look up this server's name for it, on its event loop.
    "origin",
    # Set below.
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
}


def upstream_headers(request: web.BaseRequest) -> CIMultiDict[str]:
    """Return what a request says to ComfyUI, and through whom it came."""
    headers = request.headers
    kept = _kept(headers, _NOT_UPSTREAM)
    came_through = [*headers.getall("X-Forwarded-For", ()), _address(request.remote)]
    kept["X-Forwarded-For"] = ", ".join(filter(None, came_through))
    kept["X-Forwarded-Proto"] = headers.get("X-Forwarded-Proto", request.scheme)
    if host := headers.get("X-Forwarded-Host", headers.get("Host")):
        kept["X-Forwarded-Host"] = host
    # The path that the client knows, for messages: at ComfyUI the API has another one.
    kept.setdefault("X-Forwarded-Uri", _encodable(request.rel_url.raw_path))
    return kept


def client_headers(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """Return what ComfyUI's answer says to the client.

    Raises:
        ValueError: It has a header that is none.
    """
    kept = _kept(headers, _OF_THE_CONNECTION)
    if "Transfer-Encoding" in headers:
        kept.popall("Content-Length", None)
    return kept


def _kept(headers: CIMultiDictProxy[str], left_out: frozenset[str]) -> CIMultiDict[str]:
    named = _named_by_connection(headers)
    kept: CIMultiDict[str] = CIMultiDict()
    # aiohttp's client drops the first of two that differ in their spelling only.
    spelled: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        if lower not in left_out and lower not in named:
            first = spelled.setdefault(lower, name)
            kept.add(first, value if _is_plain(value) else _encodable(value))
    return kept


def _named_by_connection(headers: CIMultiDictProxy[str]) -> frozenset[str]:
    if "Connection" not in headers:
        return frozenset()
    listed = ",".join(headers.getall("Connection")).split(",")
    return frozenset(name.strip().lower() for name in listed)


def _is_plain(value: str) -> bool:
    return value.isascii() and value.isprintable()


def _encodable(value: str) -> str:
    """Return a value without the bytes in it that are no UTF-8: aiohttp cannot send them.

    Raises:
        ValueError: It has a character that could end it; older parsers let some pass.
    """
    if any(character in value for character in "\r\n\0"):
        raise ValueError("A header with a control character.")
    return value.encode("utf-8", "ignore").decode()


def _address(remote: str | None) -> str | None:
    return remote and remote.removeprefix("::ffff:")


def is_websocket(headers: Mapping[str, str]) -> bool:
    """Say whether a request asks for a WebSocket."""
    wanted = [part.strip().lower() for part in headers.get("Connection", "").split(",")]
    return "upgrade" in wanted and headers.get("Upgrade", "").lower() == "websocket"
