"""Image sizes from headers, without decoding what is behind them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import SEEK_CUR, BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from .signatures import HEAD_BYTES, type_of_bytes


def image_size(image: bytes | Path) -> tuple[int, int] | None:
    """Return width and height in pixels from an image's header, or None where it has none.

    Never raises on what is in the file: a damaged image has no size.

    Raises:
        OSError: The file cannot be opened.
    """
    with BytesIO(image) if isinstance(image, bytes) else image.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
        stream.seek(0)
        found = type_of_bytes(head) or "image/unknown"
        if not found.startswith("image/"):
            return None
        measure = _SIZES.get(found, _size_by_pillow)
        try:
            width, height = measure(stream)
        except _DAMAGED:
            return None
    return (width, height) if width > 0 and height > 0 else None


_DAMAGED = (
    *(struct.error, OSError, ValueError, SyntaxError, TypeError, LookupError, EOFError),
    *(OverflowError, MemoryError, RuntimeError),
)
"""What Pillow, and the readers below, raise on headers that make no sense."""


def _png_size(stream: BinaryIO) -> tuple[int, int]:
    """IHDR is the first chunk: https://www.w3.org/TR/png-3/#11IHDR."""
    name, width, height = struct.unpack(">12x4sII", stream.read(24))
    if name != b"IHDR":
        raise ValueError("The first chunk is not IHDR.")
    return width, height


def _gif_size(stream: BinaryIO) -> tuple[int, int]:
    width, height = struct.unpack("<6xHH", stream.read(10))
    return width, height


def _jpeg_size(stream: BinaryIO) -> tuple[int, int]:
    """The size stands in the start-of-frame segment (ITU-T T.81, B.2.2), behind any metadata."""
    stream.seek(2)
    while True:
        prefix, marker, length = struct.unpack(">BBH", stream.read(4))
        if prefix != 0xFF or length < 2:
            raise ValueError("This is no segment.")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">xHH", stream.read(5))
            return width, height
        stream.seek(length - 2, SEEK_CUR)


def _webp_size(stream: BinaryIO) -> tuple[int, int]:
    """The size stands in the first chunk (RFC 9649): extended, lossless or lossy."""
    head = stream.read(30)
    if head[12:16] == b"VP8X":
        wide, wider, high, higher = struct.unpack_from("<HBHB", head, 24)
        return 1 + (wider << 16 | wide), 1 + (higher << 16 | high)
    if head[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", head, 26)
    return width & 0x3FFF, height & 0x3FFF


def _tiff_size(stream: BinaryIO) -> tuple[int, int]:
    """The size stands in the first directory (TIFF 6.0), which BigTIFF has with wider fields."""
    order = "<" if stream.read(2) == b"II" else ">"
    is_big = stream.read(2).strip(b"\0") == b"+"
    start, number, entry = ("4xQ", "Q", "HH8x8s") if is_big else ("I", "H", "HH4x4s")
    stream.seek(_unpacked(stream, order + start)[0])
    found = {}
    for _ in range(min(_unpacked(stream, order + number)[0], 0xFFFF)):
        tag, kind, value = _unpacked(stream, order + entry)
        if tag in (256, 257):
            (found[tag],) = struct.unpack_from(order + {3: "H", 16: "Q"}.get(kind, "I"), value)
    return found[256], found[257]


def _unpacked(stream: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack(layout, stream.read(struct.calcsize(layout)))


def _size_by_pillow(stream: BinaryIO) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(stream) as image:
            width, height = image.size
            return width, height
    except Image.DecompressionBombError as error:
        raise ValueError("Pillow refuses images of this size.") from error


_SIZES: dict[str, Callable[[BinaryIO], tuple[int, int]]] = {
    "image/png": _png_size,
    "image/gif": _gif_size,
    "image/jpeg": _jpeg_size,
    "image/webp": _webp_size,
    "image/tiff": _tiff_size,
}
