"""What the headers of an HTTP answer say of the object behind it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from contextlib import suppress
from datetime import timezone
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import unquote

from .base import Digest, ObjectInfo

_CONTENT_RANGE = re.compile(
    r"\s*bytes\s+(?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)\s*", re.ASCII | re.IGNORECASE
)
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
_PARAMETER = re.compile(r";\s*([\w!#$%&'*+.^`|~-]+)\s*=\s*(\"(?:[^\"\\]|\\.)*\"|[^;]*)")
_SHA256 = re.compile(r"(?:^|,)\s*sha-256\s*=\s*:?([A-Za-z0-9+/]{43}=)", re.IGNORECASE)
_SENDABLE = re.compile(r"[\t\x20-\x7e\x80-\xff]{1,1024}")
"""A validator that can be sent back; a longer one may be more than the server reads."""
_MD5_ETAG = re.compile(r'"([0-9a-f]{32})"')
_AS_IT_IS = frozenset({"", "identity", "aws-chunked"})


class ContentRange(NamedTuple):
    """Which bytes came: from ``start`` up to, not including, ``end``; of ``total`` if known.

    Of a range that could not be had, only ``total`` is known, and ``start`` and ``end`` are 0.
    """

    start: int
    end: int
    total: int | None


def object_info(status: int, headers: Message) -> ObjectInfo:
    """Return what an answer with ``status`` says of the whole object."""
    return ObjectInfo(
        size=_size(status, headers),
        version=_version(headers),
        has_ranges=status == 206 or "bytes" in _tokens(headers, "Accept-Ranges"),
        filename=_filename(headers.get("Content-Disposition", "")),
        media_type=_media_type(headers),
        digest=_digest(status, headers),
    )


def content_range(headers: Message) -> ContentRange | None:
    """Return what Content-Range says, None where it is missing or malformed."""
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if match is None:
        return None
    first, last, total = match.groups()
    start, end = (int(first), int(last) + 1) if first else (0, 0)
    return ContentRange(start, end, None if total == "*" else int(total))


def is_encoded(headers: Message) -> bool:
    """Say whether the body is not the object's bytes as they are, but compressed."""
    return not _tokens(headers, "Content-Encoding") <= _AS_IT_IS


def retry_after_s(headers: Message) -> float | None:
    """Return the seconds that Retry-After asks to wait, None where it does not."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    wait_s = _seconds_between(headers.get("Date"), value)
    return None if wait_s is None else max(wait_s, 0.0)


def _tokens(headers: Message, name: str) -> set[str]:
    return {token.strip().lower() for token in headers.get(name, "").split(",")}


def _size(status: int, headers: Message) -> int | None:
    if status in (206, 416):
        part = content_range(headers)
        return part.total if part else None
    if "Transfer-Encoding" in headers:
        return None  # what Content-Length says then does not count: RFC 9112, section 6.3
    length = headers.get("Content-Length", "").strip()
    return int(length) if _LENGTH.fullmatch(length) else None


def _version(headers: Message) -> str | None:
    """Return a validator that If-Range takes: a date only if nothing changed within its second."""
    etag = headers.get("ETag", "").strip()
    if etag.startswith('"') and _SENDABLE.fullmatch(etag):
        return etag
    modified = headers.get("Last-Modified", "").strip()
    age_s = _seconds_between(modified, headers.get("Date"))
    is_old = age_s is not None and age_s >= 1
    return modified if is_old and _SENDABLE.fullmatch(modified) else None


def _seconds_between(start: str | None, end: str | None) -> float | None:
    """Return the seconds from one HTTP date to another, None where one is missing."""
    if not start or not end:
        return None
    try:
        first, second = (parsedate_to_datetime(text) for text in (start, end))
    except (ValueError, OverflowError):
        return None
    # A date without a zone is parsed to one without: the field's dates are all UTC.
    first, second = (
        moment.replace(tzinfo=moment.tzinfo or timezone.utc) for moment in (first, second)
    )
    return (second - first).total_seconds()


def _filename(disposition: str) -> str | None:
    """Return the bare name in Content-Disposition; the form with a character set goes first."""
    found = {name.lower(): value for name, value in _PARAMETER.findall(disposition)}
    if extended := found.get("filename*"):
        charset, _, encoded = extended.strip().strip('"').partition("'")
        try:
            return _bare(unquote(encoded.rpartition("'")[2], charset or "utf-8", "strict"))
        except (LookupError, ValueError):
            pass  # no such character set, or what is no text in it
    return _bare(_decoded(_unquoted(found.get("filename", ""))))


def _unquoted(value: str) -> str:
    value = value.strip()
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _decoded(text: str) -> str:
    """Return what a header's bytes mean: many servers send UTF-8 where Latin-1 is due."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _bare(name: str) -> str | None:
    last = re.split(r"[/\\]", name)[-1].strip()
    printable = "".join(character for character in last if character.isprintable())
    return None if printable in ("", ".", "..") else printable


def _media_type(headers: Message) -> str | None:
    name = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return name if "/" in name else None


def _digest(status: int, headers: Message) -> Digest | None:
    """Return what the whole object hashes to, where the origin sends it along."""
    for name in ("Repr-Digest", "Digest"):
        match = _SHA256.search(headers.get(name, ""))
        if match and (found := decoded_digest("sha256", match[1])):
            return found
    # With a part comes the Content-MD5 of the part; Azure has a header for that of the whole.
    whole = headers.get("Content-MD5") if status in (200, 203) else None
    said = decoded_digest("md5", headers.get("x-ms-blob-content-md5") or whole or "")
    if said is None and "x-amz-request-id" in headers:
        return etag_digest(
            headers.get("ETag", ""),
            headers.get("x-amz-server-side-encryption"),
            headers.get("x-amz-server-side-encryption-customer-algorithm"),
        )
    return said


def decoded_digest(algorithm: str, base64_text: str) -> Digest | None:
    """Return a digest that is written in base64, None where the text is none of its length."""
    with suppress(binascii.Error, ValueError):
        data = base64.b64decode(base64_text.strip(), validate=True)
        if len(data) == hashlib.new(algorithm, usedforsecurity=False).digest_size:
            return Digest(algorithm, data.hex())
    return None


def etag_digest(etag: str, encryption: str | None, customers: str | None) -> Digest | None:
    """Return the MD5 that an ETag of S3's is, None where it is none.

    It is none of an upload in parts, and of what is encrypted with other keys than S3's own:
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html. Not every storage that speaks
    S3's language keeps to that.
    """
    match = _MD5_ETAG.fullmatch(etag.strip())
    if match is None or customers is not None or encryption not in (None, "AES256"):
        return None
    return Digest("md5", match[1], is_assumed=True)
