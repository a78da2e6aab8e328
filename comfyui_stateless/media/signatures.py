"""Media types from the first bytes of a file.

Signatures that text could have by chance are held to more than their first letters.
"""

from __future__ import annotations

import re
import struct

from .mpeg import type_of_frames

HEAD_BYTES = 4096
"""As many first bytes of a file as its media type is found from."""

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", 0, b"", "image/png"),
    (b"\xff\xd8\xff", 0, b"", "image/jpeg"),
    (b"GIF87a", 0, b"", "image/gif"),
    (b"GIF89a", 0, b"", "image/gif"),
    (b"RIFF", 8, b"WEBP", "image/webp"),
    (b"II*\0", 0, b"", "image/tiff"),
    (b"MM\0*", 0, b"", "image/tiff"),
    (b"II+\0\x08\0\0\0", 0, b"", "image/tiff"),
    (b"MM\0+\0\x08\0\0", 0, b"", "image/tiff"),
    (b"v/1\x01", 0, b"", "image/x-exr"),
    (b"8BPS\0\x01", 0, b"", "image/vnd.adobe.photoshop"),
    (b"8BPS\0\x02", 0, b"", "image/vnd.adobe.photoshop"),
    (b"\xff\x0a", 0, b"", "image/jxl"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", 0, b"", "image/jxl"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", 0, b"", "image/jp2"),
    (b"\xff\x4f\xff\x51", 0, b"", "image/jp2"),
    (b"#?RADIANCE\n", 0, b"", "image/vnd.radiance"),
    (b"#?RGBE\n", 0, b"", "image/vnd.radiance"),
    (b"DDS |\0\0\0", 0, b"", "image/vnd-ms.dds"),
    (b"qoif\0", 0, b"", "image/x-qoi"),
    (b"icns\0", 0, b"", "image/icns"),
    (b"RIFF", 8, b"WAVE", "audio/wav"),
    (b"RF64", 8, b"WAVE", "audio/wav"),
    (b"BW64", 8, b"WAVE", "audio/wav"),
    (b"fLaC\0", 0, b"", "audio/flac"),
    (b"fLaC\x80", 0, b"", "audio/flac"),
    (b"FORM", 8, b"AIFF", "audio/aiff"),
    (b"FORM", 8, b"AIFC", "audio/aiff"),
    (b"#!AMR\n", 0, b"", "audio/amr"),
    (b"#!AMR-WB\n", 0, b"", "audio/amr-wb"),
    (b".snd\0", 0, b"", "audio/basic"),
    (b"caff\0\x01", 0, b"", "audio/x-caf"),
    (b"MThd\0\0\0\x06", 0, b"", "audio/midi"),
    (b"wvpk", 9, b"\x04", "audio/x-wavpack"),
    (b"RIFF", 8, b"AVI ", "video/x-msvideo"),
    (b"FLV\x01", 0, b"", "video/x-flv"),
    (b"0&\xb2u\x8ef\xcf\x11", 0, b"", "video/x-ms-asf"),
    (b".RMF\0", 0, b"", "application/vnd.rn-realmedia"),
    (b"\0\0\0\x08wide", 12, b"mdat", "video/quicktime"),
    (b"glTF\x01\0\0\0", 0, b"", "model/gltf-binary"),
    (b"glTF\x02\0\0\0", 0, b"", "model/gltf-binary"),
    (b"Kaydara FBX Binary  \0", 0, b"", "model/x-fbx"),
    (b"ply\nformat ", 0, b"", "model/x-ply"),
    (b"ply\r\nformat ", 0, b"", "model/x-ply"),
    (b"PXR-USDC", 0, b"", "model/vnd.usd"),
    (b"#usda 1.", 0, b"", "model/vnd.usda"),
    (b"%PDF-", 0, b"", "application/pdf"),
    (b"\x1f\x8b\x08", 0, b"", "application/gzip"),
)
"""How the file begins, an offset, the bytes there, the media type; the first that fits wins."""

_BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heim": "image/heic",
    b"heis": "image/heic",
    b"heix": "image/heic",
    b"hevc": "image/heic",
    b"hevm": "image/heic",
    b"hevs": "image/heic",
    b"hevx": "image/heic",
    b"mif1": "image/heif",
    b"mif2": "image/heif",
    b"msf1": "image/heif",
    b"F4A ": "audio/mp4",
    b"F4B ": "audio/mp4",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"M4P ": "audio/mp4",
    b"M4V ": "video/x-m4v",
    b"M4VH": "video/x-m4v",
    b"M4VP": "video/x-m4v",
    b"qt  ": "video/quicktime",
}
"""Major brands of ISO base media files; 3gp… and 3g2… are mobile video, any other is MP4."""

_CODED = {"image/avif", "image/heic"}

_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
"""How long the header behind a bitmap's file header can be, in bytes."""

_ANYMAP = re.compile(
    rb"P(?:[456]\s(?:#[^\n]{0,200}\n){0,8}\s{0,8}\d{1,9}\s{1,8}\d{1,9}\s"
    rb"|7\nWIDTH \d|[Ff]\n\d{1,9} \d{1,9}\n-?\d)"
)

MAX_SAFETENSORS_HEADER = 100_000_000
"""In bytes, as the format's own reader has it."""


def type_of_bytes(head: bytes) -> str | None:
    """Return the media type of a file from its first bytes, None where they tell none.

    Args:
        head: ``HEAD_BYTES``, or all that there are.
    """
    for first, offset, second, found in _SIGNATURES:
        if head.startswith(first) and head.startswith(second, offset):
            return found
    for recognised in _BY_STRUCTURE:
        if structured := recognised(head):
            return structured
    return None


def is_html(head: bytes, media_type: str | None) -> bool:
    """Say whether an answer is a web page, such as a login form in place of a file.

    Args:
        head: The first bytes; they outrank the declared type.
        media_type: As it was declared, None where it was not.
    """
    root = _root_element(head)
    if root.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return True
    declared = (media_type or "").partition(";")[0].strip().lower()
    is_binary = b"\0" in head or type_of_bytes(head) is not None
    return declared in ("text/html", "application/xhtml+xml") and not is_binary


def _iso_media(head: bytes) -> str | None:
    """The first box of an ISO base media file names its brand and those it is compatible with."""
    if head[4:8] == b"moov" and head[12:16] in (b"mvhd", b"cmov", b"rmra"):
        return "video/quicktime"
    if head[4:8] != b"ftyp" or head[:2] != b"\0\0":
        return None
    major = head[8:12]
    if major.startswith((b"3gp", b"3g2")):
        return "video/3gpp2" if major[2:3] == b"2" else "video/3gpp"
    found = _BRANDS.get(major, "video/mp4")
    if found != "image/heif":
        return found
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = (_BRANDS.get(head[place : place + 4], "") for place in range(16, end, 4))
    return next((coded for coded in brands if coded in _CODED), found)


def _ebml(head: bytes) -> str | None:
    """Matroska and WebM differ in the DocType element (0x4282), its length in the byte behind."""
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return None
    return "video/webm" if b"\x42\x82\x84webm" in head[:128] else "video/x-matroska"


def _ogg(head: bytes) -> str | None:
    """The first packet, behind a page header of 28 bytes, names the codec."""
    if not head.startswith(b"OggS\0"):
        return None
    is_skeleton = head.startswith(b"fishead\0", 28)
    is_video = head.startswith((b"\x80theora", b"BBCD\0", b"\x01video"), 28)
    return "video/ogg" if is_video or (is_skeleton and b"\x80theora" in head) else "audio/ogg"


def _bitmap(head: bytes) -> str | None:
    if not head.startswith(b"BM") or len(head) < 18:
        return None
    offset, header = struct.unpack_from("<II", head, 10)
    return "image/bmp" if header in _BMP_HEADERS and offset >= 14 + header else None


def _icon(head: bytes) -> str | None:
    """Images of a count, each with a zero byte, at most one plane, and so many bits a pixel."""
    if not head.startswith(b"\0\0\x01\0") or len(head) < 22:
        return None
    count, reserved, planes, bits = struct.unpack_from("<4xH3xBHH", head)
    fits = 0 < count < 256 and reserved == 0 and planes < 2 and bits in (0, 1, 4, 8, 16, 24, 32)
    return "image/vnd.microsoft.icon" if fits else None


def _anymap(head: bytes) -> str | None:
    return "image/x-portable-anymap" if _ANYMAP.match(head) else None


def _zip(head: bytes) -> str | None:
    """A USDZ is an archive whose first entry is the scene, stored as it is."""
    if not head.startswith(b"PK\x03\x04"):
        return None
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")].lower()
    is_scene = head[8:10] == b"\0\0" and name.endswith((b".usd", b".usda", b".usdc"))
    return "model/vnd.usdz+zip" if is_scene else "application/zip"


def _safetensors(head: bytes) -> str | None:
    size = int.from_bytes(head[:8], "little")
    fits = head[8:10] in (b'{"', b"{}", b"{ ") and 0 < size <= MAX_SAFETENSORS_HEADER
    return "application/x-safetensors" if fits else None


def _svg(head: bytes) -> str | None:
    root = _root_element(head)
    is_svg = re.match(rb"<svg[\s>/]|<!doctype svg[\s>]", root) is not None
    return "image/svg+xml" if is_svg else None


def _root_element(head: bytes) -> bytes:
    """Return how a markup document goes on behind its declaration and comments, in lower case."""
    rest = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    while rest.startswith((b"<?", b"<!--")):
        end = b"?>" if rest.startswith(b"<?") else b"-->"
        rest = rest.partition(end)[2].lstrip()
    return rest[:32].lower()


_BY_STRUCTURE = (
    _iso_media,
    _ebml,
    _ogg,
    _bitmap,
    _icon,
    type_of_frames,
    _anymap,
    _zip,
    _safetensors,
    _svg,
)
