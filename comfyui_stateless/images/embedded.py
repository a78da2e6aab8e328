"""The texts that ComfyUI embeds in images, prompt and workflow, from which its editor loads the
graph again: in chunks of PNG, in EXIF elsewhere.

In EXIF they stand as ComfyUI's SaveAnimatedWEBP writes them: strings ``keyword:text``, the prompt
in tag 0x0110, the others from 0x010F downward. EXIF is laid out like a TIFF 6.0 file.
"""

from __future__ import annotations

import logging
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO

from ..wire import escaped
from .png import SIGNATURE

Text = tuple[tuple[str, str], ...]

EXIF_LIMIT = 64_000
"""Bytes of texts that fit the EXIF of a JPEG, which is one segment of 64 KiB."""

EXIF_PREFIX = b"Exif\0\0"

log = logging.getLogger("comfyui_stateless.images")

_PROMPT_TAG = 0x0110
_OTHER_TAGS = range(0x010F, 0x00FF, -1)
_STRING = 2
_ILOC_LAYOUT = (0, 0x4440)
_LONGEST_TEXT = 64 * 1024 * 1024
"""Bytes that the texts of a file come to at most: a kilobyte may inflate to a megabyte."""

_TEXT_CHUNKS = {b"tEXt", b"zTXt", b"iTXt", b"comf"}


def is_animated_png(stream: BinaryIO) -> bool:
    """Whether a PNG has more than one frame: its acTL chunk, before the pixels, says how many."""
    name, data = next(_chunks(stream, {b"acTL", b"IDAT"}), (b"", b""))
    return name == b"acTL" and int.from_bytes(data[:4], "big") > 1


def text_of_png(stream: BinaryIO) -> Text:
    """Return keyword and text of the text chunks, and of SaveAnimatedPNG's ``comf`` chunks."""
    found: list[tuple[str, str]] = []
    left = _LONGEST_TEXT
    for name, data in _chunks(stream, _TEXT_CHUNKS):
        text = _text(name, data, left)
        if text is not None:
            found.append(text)
            left -= len(text[1])
    return tuple(found)


def _chunks(stream: BinaryIO, wanted: set[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and data of the wanted chunks, up to the end, or to where the file breaks off."""
    position = len(SIGNATURE)
    while len(head := _read(stream, position, 8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name in wanted:
            yield name, _read(stream, position + 8, length if name != b"IDAT" else 0)
        position += 12 + length


def _read(stream: BinaryIO, position: int, length: int) -> bytes:
    stream.seek(position)
    return stream.read(length)


def _text(name: bytes, data: bytes, left: int) -> tuple[str, str] | None:
    """Return keyword and text; of what is inflated, ``left`` bytes at most."""
    keyword, _, value = data.partition(b"\0")
    encoding = "utf-8" if name == b"iTXt" else "latin-1"
    try:
        if name == b"zTXt":
            value = _inflated(value[1:], left)
        elif name == b"iTXt":
            is_compressed = value.startswith(b"\1")
            _, _, value = value[2:].split(b"\0", 2)
            value = _inflated(value, left) if is_compressed else value
        return keyword.decode("latin-1"), value.decode(encoding)
    except (zlib.error, ValueError):
        return None


def _inflated(data: bytes, left: int) -> bytes:
    # Of 0 bytes zlib would make as many as there are.
    return zlib.decompressobj().decompress(data, max(left, 1))


def exif_of_text(text: Iterable[tuple[str, str]], limit: int) -> bytes:
    """Return EXIF, without its prefix, that holds the texts; empty where there are none.

    Args:
        limit: Bytes of texts to hold at most. One that does not fit is left out, with a warning.
    """
    entries: dict[int, bytes] = {}
    others = iter(_OTHER_TAGS)
    for keyword, value in text:
        entry = _ascii(f"{keyword}:{value}").encode() + b"\0"
        tag = _PROMPT_TAG if keyword == "prompt" else next(others, None)
        if tag is None or len(entry) + sum(map(len, entries.values())) > limit:
            log.warning("The image has no room for its %a of %d bytes.", keyword, len(entry))
        else:
            entries[tag] = entry
    return _directory(entries) if entries else b""


def _ascii(text: str) -> str:
    """Escape as JSON does: what ComfyUI embeds is JSON, and EXIF's strings are ASCII."""
    return re.sub(r"[^\x01-\x7f]+", lambda match: escaped(match[0]), text)


def _directory(entries: Mapping[int, bytes]) -> bytes:
    """Lay out strings as a TIFF directory; what fits in four bytes stands in place of its offset."""
    records, values = b"", b""
    start = 8 + 2 + 12 * len(entries) + 4
    for tag, entry in sorted(entries.items()):
        place = struct.pack("<I", start + len(values)) if len(entry) > 4 else entry.ljust(4, b"\0")
        records += struct.pack("<HHI", tag, _STRING, len(entry)) + place
        values += entry + bytes(len(entry) % 2) if len(entry) > 4 else b""
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + records + bytes(4) + values


def text_of_exif(exif: bytes) -> Text:
    """Return the texts that ``exif_of_text``, or ComfyUI, has put into EXIF."""
    tiff = exif.removeprefix(EXIF_PREFIX)
    found = []
    try:
        for tag, entry in _strings(tiff, {b"II": "<", b"MM": ">"}.get(tiff[:2], "<")):
            keyword, colon, value = entry.decode("utf-8", "replace").partition(":")
            if colon and _is_keyword(keyword) and (tag == _PROMPT_TAG or tag in _OTHER_TAGS):
                found.append((tag, keyword, value))
    except struct.error:
        log.debug("The EXIF of an image breaks off.")
    return tuple((keyword, value) for _, keyword, value in sorted(found, reverse=True))


def _is_keyword(keyword: str) -> bool:
    """Cameras write sentences there; a keyword is what fits a text chunk of PNG as well."""
    return keyword.isascii() and keyword.isprintable() and 0 < len(keyword) < 80


def _strings(tiff: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for record in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, length, offset = struct.unpack_from(f"{order}HHII", tiff, record)
        if kind == _STRING:
            place = offset if length > 4 else record + 8
            yield tag, tiff[place : place + length].rstrip(b"\0")


def with_webp_exif(webp: bytes, exif: bytes) -> bytes:
    """Return a WebP file whose EXIF chunk (it must have one) holds ``exif`` instead.

    The layout is that of RFC 9649: chunks of name, size and data, padded to even lengths. The
    padding is counted as data here: ComfyUI's editor does not skip it.
    """
    body = bytearray(webp[:12])
    for name, data in _riff_chunks(webp):
        data = exif if name == b"EXIF" else data
        data += bytes(len(data) % 2)
        body += name + struct.pack("<I", len(data)) + data
    body[4:8] = struct.pack("<I", len(body) - 8)
    return bytes(body)


def _riff_chunks(webp: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 12
    while position < len(webp):
        name, size = struct.unpack_from("<4sI", webp, position)
        yield name, webp[position + 8 : position + 8 + size]
        position += 8 + size + size % 2


def with_avif_exif(avif: bytes, exif: bytes) -> bytes:
    """Return an AVIF file, as libheif writes it, whose Exif item (it must have one) is ``exif``.

    The data go into a box of their own at the end, and the item's record in the iloc box
    (ISO/IEC 14496-12, 8.11.3) is pointed there, without a base offset: ComfyUI's editor does not
    add it.
    """
    name = avif.index(b"Exif")
    item = avif[name - 4 : name - 2]
    start = avif.index(b"iloc") + 4
    version, sizes, count = struct.unpack_from(">B3xHH", avif, start)
    if (version, sizes) != _ILOC_LAYOUT:
        log.warning("The AVIF encoder writes a layout that is not known here: no metadata.")
        return avif
    body = bytearray(avif)
    for record in range(start + 8, start + 8 + 18 * count, 18):
        if avif[record : record + 2] == item:
            struct.pack_into(">HIHII", body, record + 2, 0, 0, 1, len(avif) + 8, 4 + len(exif))
    return bytes(body) + struct.pack(">I4sI", 12 + len(exif), b"mdat", 0) + exif


def with_jpeg_exif(jpeg: bytes, exif: bytes) -> bytes:
    """Return a JPEG file with an EXIF segment, which stands right behind the first marker."""
    segment = EXIF_PREFIX + exif
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(segment)) + segment + jpeg[2:]
