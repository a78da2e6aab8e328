"""What media types are to the cache."""

from __future__ import annotations

from ..media import _EXTENSIONS


def extension(media_type: str) -> str:
    """Return the usual extension of a media type, with its dot; empty where there is none."""
    usual = {
        "image/jpeg": ".jpg",
        "image/tiff": ".tiff",
        "audio/ogg": ".ogg",
        "application/octet-stream": "",
    }
    if media_type in usual:
        return usual[media_type]
    return next((f".{k}" for k, v in _EXTENSIONS.items() if v == media_type), "")


def is_html(head: bytes, media_type: str | None) -> bool:
    """Say whether a file is a web page."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return media_type in ("text/html", "application/xhtml+xml") or start.startswith(
        (b"<!doctype html", b"<html")
    )
