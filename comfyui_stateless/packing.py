"""Which versions of HTTP, and which bodies, are read."""

from __future__ import annotations

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from .errors import RequestError, UnsupportedMediaType, VersionNotSupported

HTTP_1_0 = (1, 0)
HTTP_1_1 = (1, 1)

READ = ("gzip", "deflate")


def require_known_version(version: tuple[int, int]) -> None:
    """Refuse a request whose first line has an HTTP other than 1.0 and 1.1.

    aiohttp reads it as if it were 1.1, and answers under the version that it cannot speak.

    Raises:
        VersionNotSupported: It has (RFC 9110, section 15.6.6).
    """
    if version not in (HTTP_1_1, HTTP_1_0):
        raise VersionNotSupported("Requests are read as HTTP/1.1 or HTTP/1.0 only.")


def has_lost_its_body(request: web.BaseRequest) -> bool:
    """Whether an older aiohttp took the body for the first bytes of another protocol.

    With ``Upgrade: websocket`` it does, before 3.14. It fails on them when a response is handed
    back, before the first byte of that is sent.
    """
    if "Upgrade" not in request.headers or not request.content.is_eof():
        return False
    is_announced = request.content_length or "Transfer-Encoding" in request.headers
    return bool(is_announced) and not request.content.total_bytes


def require_body(request: web.BaseRequest) -> None:
    """Refuse a request whose body is lost.

    Raises:
        RequestError: It is.
    """
    if has_lost_its_body(request):
        raise RequestError("A request that asks for another protocol by Upgrade can have no body.")


def require_known_packing(headers: CIMultiDict[str] | CIMultiDictProxy[str]) -> None:
    """Refuse a body that is compressed in a way in which none is read.

    aiohttp takes a body whose coding it does not know for one that is not compressed.

    Raises:
        UnsupportedMediaType: It is; the answer says which ways are known (RFC 9110, 15.5.16).
    """
    said = ",".join(headers.getall("Content-Encoding", ())).strip().lower()
    if said in ("", "identity", *READ):
        return
    raise UnsupportedMediaType(
        f"A body is read as it is, or compressed with one of {' and '.join(READ)}, not with "
        f"{said[:40]!a}.",
        headers={"Accept-Encoding": ", ".join(READ)},
    )
