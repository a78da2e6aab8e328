"""How files are named in the cache: after their URL, flat in one folder."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import PurePosixPath
from urllib.parse import unquote

from ..media import HEAD_BYTES, UNKNOWN, extension, media_type
from ..naming import redacted, safe_id
from ..storage.base import ObjectInfo

KEY_LENGTH = 32

SIDE_ENDINGS = (".meta", ".part", ".lock")
"""What the files end in that are no cached ones."""

SNIFF_BYTES = max(HEAD_BYTES, 512)
"""As many first bytes of a file as tell what it is."""

_KEY = re.compile(rf"[A-Za-z0-9_-]{{{KEY_LENGTH}}}")
_PLAIN = re.compile(r"\.(?=[0-9]*[A-Za-z])[A-Za-z0-9_]{1,15}")
_USERINFO = re.compile(r"[^:/?#]+://[^/?#]*@")

_TELL_NOTHING = frozenset(
    {
        UNKNOWN,
        "application/binary",
        "application/x-binary",
        "application/x-zip-compressed",
        "application/zip",
        "binary/octet-stream",
        "text/html",
        "text/plain",
    }
)
"""Types that servers give to anything, so that the bytes are asked first."""


def key_of(url: str) -> str:
    """Return the name of a URL's file without its extension."""
    digest = hashlib.sha256(url.encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest)[:KEY_LENGTH].decode("ascii")


def key_in(filename: str) -> str | None:
    """Return the key that a file in the cache's folder belongs to, None if it is not the cache's."""
    key = filename.partition(".")[0]
    return key if _KEY.fullmatch(key) else None


def is_content(filename: str) -> bool:
    """Say whether a file of the cache's is a cached one, and none that stands beside one."""
    return not filename.endswith(SIDE_ENDINGS)


def has_userinfo(url: str) -> bool:
    """Say whether a URL carries a user name or a password."""
    return _USERINFO.match(url) is not None


def extension_for(url: str, info: ObjectInfo, head: bytes) -> str:
    """Return the extension that a file is stored under, with its dot.

    The URL's path is asked first, then the name and the type that the origin gives, then the bytes.

    Args:
        head: The first ``SNIFF_BYTES`` of the file.
    """
    return (
        _plain_extension(_basename(url))
        or _plain_extension(info.filename or "")
        or _from_type(info.media_type)
        or _from_bytes(head)
        or (extension(info.media_type) if info.media_type else "")
        or ".bin"
    )


def readable_name(url: str, info_filename: str | None, suffix: str) -> str:
    """Return a base name for people: the origin's, else the URL's, made safe, with ``suffix``."""
    name = PurePosixPath(safe_id(info_filename or _basename(url)))
    known = _plain_extension(name.name)
    stem = name.name[: -len(known)] if known else name.name
    return f"{stem.strip('. ') or 'file'}{suffix}"


def _basename(url: str) -> str:
    path = redacted(url).removesuffix("?…").partition("://")[2].partition("/")[2]
    name = path.rpartition("/")[2]
    return name if url.lower().startswith("s3:") else unquote(name)


def _plain_extension(name: str) -> str:
    suffix = PurePosixPath(name.replace("/", "_")).suffix if name else ""
    is_ours = suffix.lower() in SIDE_ENDINGS
    return suffix if _PLAIN.fullmatch(suffix) and not is_ours else ""


def _from_type(given: str | None) -> str:
    return "" if given is None or given in _TELL_NOTHING else extension(given)


def _from_bytes(head: bytes) -> str:
    if head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") <= 100_000_000:
        return ".safetensors"
    if head.startswith(b"GGUF"):
        return ".gguf"
    if head.startswith(b"PK\x03\x04"):
        return ".pt" if b"data.pkl" in head else ".zip"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return ".ckpt"
    return extension(media_type("", head))
