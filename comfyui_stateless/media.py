"""What a file is: its media type, from its first bytes and its name, and an image's size.

The tables are ours, so that the answer is the same on every platform.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import SEEK_CUR, BytesIO
from pathlib import Path
from typing import BinaryIO

HEAD_BYTES = 64
"""As many first bytes of a file as ``media_type`` looks at."""

UNKNOWN = "application/octet-stream"

_SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (8, b"WAVE", "audio/wav"),
    (8, b"AVI ", "video/x-msvideo"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (0, b"v/1\x01", "image/x-exr"),
    (0, b"8BPS", "image/vnd.adobe.photoshop"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
    (0, b"glTF", "model/gltf-binary"),
    (0, b"fLaC", "audio/flac"),
    (0, b"ID3", "audio/mpeg"),
    (28, b"\x80theora", "video/ogg"),
    (0, b"OggS", "audio/ogg"),
    (0, b"FLV\x01", "video/x-flv"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "video/x-ms-asf"),
    (0, b"%PDF-", "application/pdf"),
)
"""Offset, bytes there, media type; the first that fits wins. RIFF's forms stand at offset 8."""

_BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heif",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"qt  ": "video/quicktime",
    b"3gp4": "video/3gpp",
    b"3gp5": "video/3gpp",
}
"""Major brands of ISO base media files; any other is an MP4 video."""

_EXTENSIONS = {
    "3gp": "video/3gpp",
    "3mf": "model/3mf",
    "aac": "audio/aac",
    "apng": "image/apng",
    "avi": "video/x-msvideo",
    "avif": "image/avif",
    "bmp": "image/bmp",
    "csv": "text/csv",
    "dae": "model/vnd.collada+xml",
    "exr": "image/x-exr",
    "fbx": "model/x-fbx",
    "flac": "audio/flac",
    "flv": "video/x-flv",
    "gif": "image/gif",
    "glb": "model/gltf-binary",
    "gltf": "model/gltf+json",
    "hdr": "image/vnd.radiance",
    "heic": "image/heic",
    "heif": "image/heif",
    "htm": "text/html",
    "html": "text/html",
    "ico": "image/vnd.microsoft.icon",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "jxl": "image/jxl",
    "ksplat": "model/x-ksplat",
    "latent": UNKNOWN,
    "log": "text/plain",
    "m4a": "audio/mp4",
    "m4v": "video/x-m4v",
    "md": "text/markdown",
    "mkv": "video/x-matroska",
    "mov": "video/quicktime",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "mpg": "video/mpeg",
    "mtl": "model/mtl",
    "obj": "model/obj",
    "oga": "audio/ogg",
    "ogg": "audio/ogg",
    "ogv": "video/ogg",
    "opus": "audio/ogg",
    "pdf": "application/pdf",
    "ply": "model/x-ply",
    "png": "image/png",
    "psd": "image/vnd.adobe.photoshop",
    "splat": "model/x-splat",
    "spz": "model/x-spz",
    "srt": "application/x-subrip",
    "stl": "model/stl",
    "svg": "image/svg+xml",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "tsv": "text/tab-separated-values",
    "txt": "text/plain",
    "usda": "model/vnd.usda",
    "usdz": "model/vnd.usdz+zip",
    "vtt": "text/vtt",
    "wav": "audio/wav",
    "webm": "video/webm",
    "webp": "image/webp",
    "wmv": "video/x-ms-asf",
    "xml": "application/xml",
    "yaml": "application/yaml",
    "yml": "application/yaml",
    "zip": "application/zip",
}

_TEXTS = {
    "application/json",
    "application/jsonl",
    "application/x-subrip",
    "application/xml",
    "application/yaml",
}


def media_type(filename: str, head: bytes = b"") -> str:
    """Return the media type of a file.

    Args:
        filename: Its name; what the bytes do not tell, the extension does.
        head: Its first bytes, ``HEAD_BYTES`` where there are as many.
    """
    _, _, extension = filename.rpartition(".")
    return _from_bytes(head) or _EXTENSIONS.get(extension.lower(), UNKNOWN)


def kind(media_type: str) -> str:
    """Return what a media type is to a person: image, video, audio, model, text, or file."""
    first, _, _ = media_type.partition("/")
    if first in ("image", "video", "audio", "model", "text"):
        return first
    return "text" if media_type in _TEXTS else "file"


def _from_bytes(head: bytes) -> str | None:
    for offset, signature, found in _SIGNATURES:
        if head.startswith(signature, offset) and (offset != 8 or head.startswith(b"RIFF")):
            return found
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "video/mp4")
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "video/webm" if b"webm" in head else "video/x-matroska"
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return "image/bmp"
    return _from_mpeg_sync(head) or ("image/svg+xml" if b"<svg" in head else None)


def _from_mpeg_sync(head: bytes) -> str | None:
    """MPEG audio begins with eleven set bits, version and layer, and has no longer signature."""
    if len(head) < 2 or head[0] != 0xFF:
        return None
    if head[1] & 0xE6 == 0xE2:
        return "audio/mpeg"
    return "audio/aac" if head[1] & 0xF6 == 0xF0 else None


def image_size(image: bytes | Path) -> tuple[int, int] | None:
    """Return width and height in pixels from an image's header, or None where it has none.

    Never raises on what is in the file: a damaged image has no size.

    Raises:
        OSError: The file cannot be opened.
    """
    with BytesIO(image) if isinstance(image, bytes) else image.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
        stream.seek(0)
        measure = _SIZES.get(_from_bytes(head) or "", _size_by_pillow)
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
    """The size stands in the first directory (TIFF 6.0), in SHORTs or LONGs."""
    order = "<" if stream.read(2) == b"II" else ">"
    (start,) = struct.unpack(f"{order}2xI", stream.read(6))
    stream.seek(start)
    (count,) = struct.unpack(f"{order}H", stream.read(2))
    found = {}
    for _ in range(count):
        tag, kind, value = struct.unpack(f"{order}HH4x4s", stream.read(12))
        if tag in (256, 257):
            (found[tag],) = struct.unpack(f"{order}H2x" if kind == 3 else f"{order}I", value)
    return found[256], found[257]


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
