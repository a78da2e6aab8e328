"""Which compressed bodies are read."""

from __future__ import annotations

from multidict import CIMultiDict, CIMultiDictProxy

from .errors import UnsupportedMediaType

READ = ("gzip", "deflate")


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
