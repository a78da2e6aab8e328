"""What a file is: its media type, from its first bytes and its name, and an image's size.

The tables are ours, so that the answer is the same on every platform.
"""

from __future__ import annotations

from .names import UNKNOWN, extension, kind, type_of_name
from .signatures import HEAD_BYTES, is_html, type_of_bytes
from .sizes import image_size

__all__ = [
    "HEAD_BYTES", "UNKNOWN", "extension", "image_size", "is_html", "is_recognised", "kind",
    "media_type",
]  # fmt: skip

_ENVELOPES = frozenset({"application/gzip", "application/x-safetensors", "application/zip"})
"""Formats that others are made of: a name that is known says more than they do."""

_ALWAYS_SIGNED = frozenset(
    {
        "audio/flac", "image/apng", "image/avif", "image/gif", "image/heic", "image/jpeg",
        "image/png", "image/webp", "video/webm", "video/x-matroska",
    }
)  # fmt: skip
"""Types that are told by the bytes of every file of theirs: of these, a name alone is no sign."""


def is_recognised(filename: str, head: bytes) -> bool:
    """Say whether a file is of a known type: by its bytes, or by its name where they cannot tell.

    Args:
        head: Its first bytes, ``HEAD_BYTES`` where there are as many.
    """
    found = media_type(filename, head)
    is_by_name = type_of_bytes(head) is None
    return found != UNKNOWN and not (is_by_name and found in _ALWAYS_SIGNED)


def media_type(filename: str, head: bytes = b"") -> str:
    """Return the media type of a file.

    Args:
        filename: Its name; what the bytes do not tell, the extension does.
        head: Its first bytes, ``HEAD_BYTES`` where there are as many.
    """
    found = type_of_bytes(head) if head else None
    if found is None or found in _ENVELOPES:
        return type_of_name(filename) or found or UNKNOWN
    return found
