"""Which pages in a browser may use this server: the rule of ComfyUI's own, without its look-ups."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from .errors import ForeignOrigin

_USUAL_PORTS = {"http": 80, "https": 443}

_ANY_PAGE_MAY_SEND = frozenset(
    {"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"}
)
"""Types of a body for which no browser asks the server first."""


def require_own_page(headers: Mapping[str, str], *, anywhere: bool = False) -> None:
    """Refuse what a browser sends for a page of another origin to a server of its own machine.

    A page that somebody visits may post to ``http://127.0.0.1:3000`` without being asked. Servers
    with another name are reached on purpose, so a foreign page is no sign of anything there.

    Args:
        anywhere: Whether it is refused whatever name this server was called by.

    Raises:
        ForeignOrigin: The page is not this server's.
    """
    origin = headers.get("Origin")
    if origin is None:
        return
    hosts = _hosts(headers)
    if (anywhere or any(map(_is_this_machine, hosts))) and not any(
        _is_same(origin, host) for host in hosts
    ):
        raise ForeignOrigin(
            "A browser sent this for a page of another origin, which may not use this server: "
            "open the page from this server, or call it from a program."
        )


def require_asked(method: str, headers: Mapping[str, str]) -> None:
    """Refuse a POST that a browser sends for a page of another origin without having asked.

    Bodies are read whatever their type says, so that any page could post one as plain text, also to
    servers that only the visitor's network reaches. For JSON, and where a key is shown, a browser
    asks first, and is told no unless ComfyUI is started with ``--enable-cors-header``.

    Raises:
        ForeignOrigin: It is such a POST.
    """
    origin = headers.get("Origin")
    if method != "POST" or origin is None or _shows_a_key(headers):
        return
    media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type in _ANY_PAGE_MAY_SEND and not any(
        _is_same(origin, host) for host in _hosts(headers)
    ):
        raise ForeignOrigin(
            "A browser sent this for a page of another origin without asking this server first: "
            "send it as application/json, or show an API key."
        )


def _shows_a_key(headers: Mapping[str, str]) -> bool:
    """Whether a key is shown in a way in which a browser adds none by itself."""
    scheme = headers.get("Authorization", "").partition(" ")[0]
    return scheme.lower() == "bearer" or "X-API-Key" in headers


def _hosts(headers: Mapping[str, str]) -> list[str]:
    return [headers[name] for name in ("Host", "X-Forwarded-Host") if name in headers]


def _is_this_machine(host: str) -> bool:
    name = (_split(f"//{host}").hostname or "").rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _is_same(origin: str, host: str) -> bool:
    page, server = _split(origin), _split(f"//{host}")
    if not page.hostname or page.hostname != server.hostname:
        return False
    usual = _USUAL_PORTS.get(page.scheme)
    # Either may leave its port out: a browser the usual one, a proxy in front of us any.
    return None in (_port(page), _port(server)) or (
        (_port(page) or usual) == (_port(server) or usual)
    )


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", "", "", "")


def _port(url: SplitResult) -> int | None:
    try:
        return url.port
    except ValueError:
        return -1
