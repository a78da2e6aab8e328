"""Files that a request holds as text: data URLs (RFC 2397) and bare base64 (RFC 4648)."""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from urllib.parse import unquote_to_bytes

from .errors import InvalidInput
from .media import HEAD_BYTES, UNKNOWN, extension, kind, media_type
from .wire import b64decode

CHUNK_CHARACTERS = 256 * 1024
"""Characters that are decoded at once: between them, other threads get their turn."""

HEAD_CHARACTERS = 2 * HEAD_BYTES
"""Characters that hold a head in base64, line breaks and all."""

MAX_PADDING = 2

_DATA = re.compile(r"[ \t\r\n]*data:", re.IGNORECASE)
_PARAMETERS = re.compile(r"([^,]{0,1024}),")
_BASE64 = re.compile(r"[A-Za-z0-9+/_ \t\r\n-]*")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_WHITESPACE = b" \t\r\n"

_PATH_LIKE = b"\xff\x0a"
"""A bare JPEG XL codestream: in base64 it begins as /workspace does, so it needs a data URL."""

_MEDIA = frozenset({"image", "video", "audio", "model"})


@dataclass(frozen=True, slots=True)
class Inline:
    """A file that stood in a request.

    Attributes:
        media_type: By the bytes; as declared where they tell nothing.
        extension: The usual one, with its dot.
        digest: SHA-256 of the bytes, in hex.
    """

    data: bytes = field(repr=False)
    media_type: str
    extension: str
    digest: str


def is_inline(text: str) -> bool:
    """Say whether a text is a data URL, or base64 of a file of a known type, by its beginning."""
    return _DATA.match(text) is not None or _begins_as_file(text)


def decode(text: str, *, chunk: int = CHUNK_CHARACTERS) -> Inline | None:
    """Return the file that a text holds, None if it is no such text, but a name or an address.

    What decodes to the beginning of a file of a known type is base64, however short. It may be in
    the standard or the URL-safe alphabet, wrapped, padded or not. Takes time and memory for one
    copy of the file: of large texts, call it on a thread.

    Args:
        chunk: Characters that are decoded at once, 4 or more.

    Raises:
        InvalidInput: It is a data URL that is malformed or of no media, or base64 that is broken.
    """
    prefix = _DATA.match(text)
    if prefix is not None:
        return _from_url(text, prefix.end(), chunk)
    if not _begins_as_file(text):
        return None
    return _inline(_from_base64(_pieces(text, 0, chunk)), "")


def _begins_as_file(text: str) -> bool:
    run = _BASE64.match(text, 0, HEAD_CHARACTERS)
    coded = run[0].encode("ascii").translate(_TO_STANDARD, _WHITESPACE) if run else b""
    coded = coded[: len(coded) - (len(coded) % 4 == 1)]
    head = b64decode(coded + b"=" * (-len(coded) % 4))
    return media_type("", head[:HEAD_BYTES]) != UNKNOWN and not head.startswith(_PATH_LIKE)


def _from_url(text: str, start: int, chunk: int) -> Inline:
    parameters = _PARAMETERS.match(text, start)
    if parameters is None:
        raise InvalidInput("The data URL has no comma, behind which its data would begin.")
    declared, *attributes = parameters[1].lower().split(";")
    pieces = _percent_decoded(_pieces(text, parameters.end(), chunk))
    if attributes and attributes[-1].strip() == "base64":
        return _inline(_from_base64(pieces), declared.strip())
    file = BytesIO()
    file.writelines(pieces)
    return _inline(file.getvalue(), declared.strip())


def _inline(data: bytes, declared: str) -> Inline:
    found = media_type("", data[:HEAD_BYTES])
    if found == UNKNOWN and (not data or kind(declared) not in _MEDIA):
        raise InvalidInput("The data URL holds no image, video, sound or 3D model of a known type.")
    found = declared if found == UNKNOWN else found
    return Inline(data, found, extension(found) or ".bin", hashlib.sha256(data).hexdigest())


def _pieces(text: str, start: int, chunk: int) -> Iterator[bytes]:
    """Yield a text in pieces, none of which ends inside of a percent code."""
    while start < len(text):
        end = start + chunk
        cut = text.rfind("%", end - 2, end)
        end = cut if cut >= 0 else end
        yield text[start:end].encode("utf-8", "surrogatepass")
        start = end


def _percent_decoded(pieces: Iterable[bytes]) -> Iterator[bytes]:
    return (unquote_to_bytes(piece) if b"%" in piece else piece for piece in pieces)


def _from_base64(pieces: Iterable[bytes]) -> bytes:
    """Decode base64 that comes in pieces, with at most one copy of what it holds.

    Raises:
        InvalidInput: Something in it is no base64, or it breaks off.
    """
    file, carry, padding = BytesIO(), b"", 0
    for piece in pieces:
        coded = carry + piece.translate(_TO_STANDARD, _WHITESPACE)
        body = coded.rstrip(b"=")
        whole = len(body) // 4 * 4
        if padding and body != carry:
            raise _broken(len(carry) + file.tell() // 3 * 4)
        _decode_to(file, body[:whole])
        carry, padding = body[whole:], padding + len(coded) - len(body)
    if len(carry) == 1 or padding > MAX_PADDING:
        raise InvalidInput("The base64 breaks off, or its padding is wrong.")
    _decode_to(file, carry)
    return file.getvalue()


def _decode_to(file: BytesIO, coded: bytes) -> None:
    try:
        if b"=" in coded:
            raise binascii.Error
        file.write(b64decode(coded + b"=" * (-len(coded) % 4), validate=True))
    except binascii.Error:
        wrong = _NOT_BASE64.search(coded)
        raise _broken(file.tell() // 3 * 4 + (wrong.start() if wrong else 0)) from None


def _broken(position: int) -> InvalidInput:
    return InvalidInput(
        f"The base64 is broken: behind {position:,} characters, line breaks not counted, "
        "comes one that does not belong there."
    )
