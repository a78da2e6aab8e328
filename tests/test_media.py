"""Media types by content before name, and image sizes from headers."""

from __future__ import annotations

import struct
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from comfyui_stateless.media import (
    extension,
    image_size,
    is_html,
    is_recognised,
    kind,
    media_type,
)


def box(brand: bytes, *compatible: bytes) -> bytes:
    """Return the first box of an ISO base media file, and the beginning of the next."""
    content = b"ftyp" + brand + bytes(4) + b"".join(compatible)
    return struct.pack(">I", 4 + len(content)) + content + b"\0\0\0\x08free"


def ogg(codec: bytes) -> bytes:
    return b"OggS\0\x02" + bytes(20) + b"\0\x1e" + codec


def bitmap(header: int) -> bytes:
    return b"BM\x36\x30\0\0\0\0\0\0" + struct.pack("<II", 14 + header, header) + bytes(20)


def zipped(name: str) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, b"content")
    return file.getvalue()


def packets(size: int) -> bytes:
    return (bytes(size - 188) + b"\x47\x40\0\x10" + bytes(184)) * 12


MP3 = b"\xff\xfb\x90\x64" + bytes(413)
"""A frame of 128 kbit/s at 44,100 Hz."""

AAC = b"\xff\xf1\x50\x80\x02\x1f\xfc" + bytes(9)
"""A frame of 16 bytes."""

EBML = b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01"

HEADS = {
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png"),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
    "gif": (b"GIF89a\x01\0\x01\0", "image/gif"),
    "old gif": (b"GIF87a\x01\0\x01\0", "image/gif"),
    "webp": (b"RIFF\x20\0\0\0WEBPVP8 ", "image/webp"),
    "tiff": (b"II*\0\x08\0\0\0", "image/tiff"),
    "big-endian tiff": (b"MM\0*\0\0\0\x08", "image/tiff"),
    "bigtiff": (b"II+\0\x08\0\0\0", "image/tiff"),
    "big-endian bigtiff": (b"MM\0+\0\x08\0\0", "image/tiff"),
    "bmp": (bitmap(40), "image/bmp"),
    "os/2 bmp": (bitmap(12), "image/bmp"),
    "newest bmp": (bitmap(124), "image/bmp"),
    "ico": (b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x20\0" + bytes(8), "image/vnd.microsoft.icon"),
    "avif": (box(b"avif", b"mif1"), "image/avif"),
    "avif sequence": (box(b"avis"), "image/avif"),
    "avif by a compatible brand": (box(b"mif1", b"miaf", b"avif"), "image/avif"),
    "heic": (box(b"heic", b"mif1"), "image/heic"),
    "heic of 10 bits": (box(b"heix"), "image/heic"),
    "heic sequence": (box(b"hevc"), "image/heic"),
    "heic by a compatible brand": (box(b"mif1", b"mif1", b"heic"), "image/heic"),
    "heic sequence by a compatible brand": (box(b"msf1", b"hevc"), "image/heic"),
    "heif": (box(b"mif1", b"mif1", b"jpeg"), "image/heif"),
    "jxl": (b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
    "jxl codestream": (b"\xff\x0a\xfa\x1f\x41", "image/jxl"),
    "jpeg 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", "image/jp2"),
    "jpeg 2000 codestream": (b"\xff\x4f\xff\x51\0\x2f", "image/jp2"),
    "exr": (b"v/1\x01\x02\0\0\0", "image/x-exr"),
    "psd": (b"8BPS\0\x01", "image/vnd.adobe.photoshop"),
    "psb": (b"8BPS\0\x02", "image/vnd.adobe.photoshop"),
    "hdr": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "image/vnd.radiance"),
    "old hdr": (b"#?RGBE\n", "image/vnd.radiance"),
    "dds": (b"DDS |\0\0\0\x07\x10", "image/vnd-ms.dds"),
    "qoi": (b"qoif\0\0\0\x10\0\0\0\x10\x04\0", "image/x-qoi"),
    "icns": (b"icns\0\0\x10\0", "image/icns"),
    "ppm": (b"P6\n640 480\n255\n\0\x01", "image/x-portable-anymap"),
    "commented pgm": (b"P5\n# made by hand\n640 480\n255\n", "image/x-portable-anymap"),
    "pam": (b"P7\nWIDTH 4\n", "image/x-portable-anymap"),
    "pfm": (b"PF\n640 480\n-1.0\n", "image/x-portable-anymap"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml"),
    "svg as xml": (b'<?xml version="1.0"?>\n<svg xmlns="http://www', "image/svg+xml"),
    "svg behind a comment": (b"\xef\xbb\xbf \n<!-- <html> --><!--2-->\n<svg\n ", "image/svg+xml"),
    "svg by its doctype": (b'<?xml version="1.0"?><!DOCTYPE svg PUBLIC', "image/svg+xml"),
    "mp4": (box(b"isom", b"isom", b"avc1"), "video/mp4"),
    "mp4 of an unknown brand": (box(b"abcd"), "video/mp4"),
    "mov": (box(b"qt  "), "video/quicktime"),
    "old mov": (b"\0\0\x02\0moov\0\0\0\x6cmvhd", "video/quicktime"),
    "mov with its data in front": (b"\0\0\0\x08wide\0\x10\0\0mdat", "video/quicktime"),
    "m4v": (box(b"M4V "), "video/x-m4v"),
    "3gp": (box(b"3gp4"), "video/3gpp"),
    "newer 3gp": (box(b"3gp7"), "video/3gpp"),
    "3g2": (box(b"3g2a"), "video/3gpp2"),
    "m4a": (box(b"M4A "), "audio/mp4"),
    "webm": (EBML + b"B\x82\x84webm", "video/webm"),
    "mkv": (EBML + b"B\x82\x88matroska", "video/x-matroska"),
    "mkv that speaks of webm": (EBML + b"B\x82\x88matroska" + b"webm", "video/x-matroska"),
    "avi": (b"RIFF\x20\0\0\0AVI LIST", "video/x-msvideo"),
    "flv": (b"FLV\x01\x05", "video/x-flv"),
    "wmv": (b"0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa", "video/x-ms-asf"),
    "mpeg program stream": (b"\0\0\x01\xba\x44\0\x04", "video/mpeg"),
    "mpeg-1 program stream": (b"\0\0\x01\xba\x21\0\x01", "video/mpeg"),
    "mpeg video stream": (b"\0\0\x01\xb3\x14\0\xf0", "video/mpeg"),
    "mpeg transport stream": (packets(188), "video/mp2t"),
    "mpeg transport stream with time codes": (packets(192), "video/mp2t"),
    "wav": (b"RIFF\x20\0\0\0WAVEfmt ", "audio/wav"),
    "large wav": (b"RF64\xff\xff\xff\xffWAVEds64", "audio/wav"),
    "aiff": (b"FORM\0\0\x10\0AIFFCOMM", "audio/aiff"),
    "flac": (b"fLaC\0\0\0\x22", "audio/flac"),
    "mp3 with tag": (b"ID3\x04\0\0\0\0\x02\x7f", "audio/mpeg"),
    "mp3": (MP3 * 3, "audio/mpeg"),
    "mp3 of one frame": (MP3, "audio/mpeg"),
    "mpeg-2 mp3": ((b"\xff\xf3\x40\xc0" + bytes(100)) * 2, "audio/mpeg"),
    "mp2": ((b"\xff\xfd\x84\x04" + bytes(380)) * 2, "audio/mpeg"),
    "aac": (AAC * 3, "audio/aac"),
    "amr": (b"#!AMR\n\x3c", "audio/amr"),
    "midi": (b"MThd\0\0\0\x06\0\x01", "audio/midi"),
    "opus": (ogg(b"OpusHead"), "audio/ogg"),
    "vorbis": (ogg(b"\x01vorbis"), "audio/ogg"),
    "flac in ogg": (ogg(b"\x7fFLAC"), "audio/ogg"),
    "theora": (ogg(b"\x80theora"), "video/ogg"),
    "theora behind a skeleton": (ogg(b"fishead\0") + ogg(b"\x80theora"), "video/ogg"),
    "vorbis behind a skeleton": (ogg(b"fishead\0") + ogg(b"\x01vorbis"), "audio/ogg"),
    "glb": (b"glTF\x02\0\0\0", "model/gltf-binary"),
    "ply": (b"ply\nformat binary_little_endian 1.0\n", "model/x-ply"),
    "fbx": (b"Kaydara FBX Binary  \0\x1a\0", "model/x-fbx"),
    "usdc": (b"PXR-USDC\0\x08", "model/vnd.usd"),
    "usdz": (zipped("scene.usdc"), "model/vnd.usdz+zip"),
    "pdf": (b"%PDF-1.7", "application/pdf"),
}


@pytest.mark.parametrize(("head", "expected"), HEADS.values(), ids=HEADS)
def test_the_content_decides_whatever_the_name_says(head: bytes, expected: str) -> None:
    assert media_type("output.txt", head) == expected
    assert media_type("", head) == expected


TEXTS = [
    b"", b"BM", b"BMW is a car, and this is long enough to hold a whole header of a bitmap",
    b"RIFF....", b"plain", b"\xff\xfe", b"ID3 tags are old", b"glTF is a format", b"8BPS is Photoshop",
    b"OggS", b"fLaC is lossless", b"free of charge", b"the ftyp box", b"a moov atom, mvhd inside",
    b"P6 is the sixth point of 12 or so", b"PK is short", b"ply the trade", b"DDS |", b"#! /bin/sh",
    b"G" * 4096, b"\xff\xfb\x90\x64 and then text" * 100, b"\xff\xf1\x50\x80\x02",
    b"<html><body><svg></svg></body></html>", b"<!DOCTYPE html><svg>", b"<svgalib>", b"see <svg> there",
    b"<?xml version='1.0'?><collada/>", b"<!--", b"<!--<svg>-->", b"<?xml" * 800, b"<!---->" * 580,
    b'{"asset": {"version": "2.0"}}', b"\0" * 4096, b"\0\0\x01\0" + b"\xff" * 100, b"\0\0\x01\xba\0",
]  # fmt: skip


@pytest.mark.parametrize("head", TEXTS, ids=lambda head: ascii(head[:20]))
def test_where_the_content_tells_nothing_the_extension_does(head: bytes) -> None:
    assert media_type("a/b.c.txt", head) == "text/plain"
    assert media_type("", head) == "application/octet-stream"


WEIGHTS = struct.pack("<Q", 60) + b'{"__metadata__":{"format":"pt"}}'


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("a.3mf", zipped("3D/3dmodel.model"), "model/3mf"),
        ("a.unknown", zipped("3D/3dmodel.model"), "application/zip"),
        ("a.spz", b"\x1f\x8b\x08\0", "model/x-spz"),
        ("a", b"\x1f\x8b\x08\0", "application/gzip"),
        ("a.latent", WEIGHTS, "application/octet-stream"),
        ("", WEIGHTS, "application/x-safetensors"),
        ("a.zip", zipped("scene.usdc"), "model/vnd.usdz+zip"),
    ],
)
def test_what_is_packed_in_a_common_format_is_told_by_its_name(
    name: str, head: bytes, expected: str
) -> None:
    assert media_type(name, head) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("image/jpeg", ".jpg"),
        ("image/jpg", ".jpg"),
        ("IMAGE/PNG; q=1", ".png"),
        ("image/tiff", ".tiff"),
        ("audio/mpeg", ".mp3"),
        ("audio/x-wav", ".wav"),
        ("video/quicktime", ".mov"),
        ("model/gltf-binary", ".glb"),
        ("application/x-safetensors", ".safetensors"),
        ("application/octet-stream", ""),
        ("image/unheard-of", ""),
        ("", ""),
    ],
)
def test_a_media_type_has_a_usual_extension(given: str, expected: str) -> None:
    assert extension(given) == expected


@pytest.mark.parametrize(("head", "found"), HEADS.values(), ids=HEADS)
def test_the_extension_of_what_is_recognised_leads_back_to_it(head: bytes, found: str) -> None:
    assert media_type(f"a{extension(found)}") == found


@pytest.mark.parametrize(
    ("head", "declared"),
    [
        (b"<!DOCTYPE html><html>", None),
        (b"\xef\xbb\xbf\r\n  <HTML lang=en>", "application/octet-stream"),
        (b"<!-- cached --><?xml version='1.0'?><!DocType html>", "image/png"),
        (b"<head><title>Sign in</title>", ""),
        (b"Please sign in", "text/html; charset=utf-8"),
        (b"", "TEXT/HTML"),
        (b"<p>", "application/xhtml+xml"),
    ],
)
def test_a_web_page_is_told_from_a_file(head: bytes, declared: str | None) -> None:
    assert is_html(head, declared)


@pytest.mark.parametrize(
    ("head", "declared"),
    [
        (b"\x89PNG\r\n\x1a\n", "text/html"),
        (WEIGHTS, "text/html"),
        (b"\x80\x02}q\0", "text/html"),
        (b'{"html": "<html>"}', "application/json"),
        (b"<svg><title>html</title></svg>", None),
        (b"plain", "text/plain"),
        (b"", None),
    ],
)
def test_a_file_is_no_web_page_whatever_its_server_says(head: bytes, declared: str | None) -> None:
    assert not is_html(head, declared)


NAMES = {
    "a.png": ("image/png", "image"),
    "A.JPG": ("image/jpeg", "image"),
    "a.webp": ("image/webp", "image"),
    "a.svg": ("image/svg+xml", "image"),
    "a.exr": ("image/x-exr", "image"),
    "a.mp4": ("video/mp4", "video"),
    "a.webm": ("video/webm", "video"),
    "a.mp3": ("audio/mpeg", "audio"),
    "a.flac": ("audio/flac", "audio"),
    "a.opus": ("audio/ogg", "audio"),
    "a.glb": ("model/gltf-binary", "model"),
    "a.obj": ("model/obj", "model"),
    "a.txt": ("text/plain", "text"),
    "a.json": ("application/json", "text"),
    "a.srt": ("application/x-subrip", "text"),
    "a.latent": ("application/octet-stream", "file"),
    "a.safetensors": ("application/octet-stream", "file"),
    "a.zip": ("application/zip", "file"),
    "png": ("image/png", "image"),
    "noextension": ("application/octet-stream", "file"),
    "": ("application/octet-stream", "file"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_have_a_media_type_and_a_kind(name: str) -> None:
    found = media_type(name)
    assert (found, kind(found)) == NAMES[name]


def encoded(format: str, **options: Any) -> bytes:
    file = BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (37, 301, 4), dtype=np.uint8)
    mode = "RGBA" if options.pop("alpha", False) else "RGB"
    Image.fromarray(noise).convert(mode).save(file, format, **options)
    return file.getvalue()


IMAGES = {
    "png": encoded("PNG"),
    "gif": encoded("GIF"),
    "jpeg": encoded("JPEG"),
    "progressive jpeg with exif": encoded("JPEG", progressive=True, exif=b"Exif\0\0" + bytes(999)),
    "lossy webp": encoded("WEBP"),
    "lossless webp": encoded("WEBP", lossless=True),
    "extended webp": encoded("WEBP", alpha=True),
    "animated webp": encoded("WEBP", save_all=True, append_images=[Image.new("RGB", (301, 37))]),
    "tiff": encoded("TIFF"),
    "big-endian tiff": encoded("TIFF", big_endian=True),
    "bmp": encoded("BMP"),
    "avif": encoded("AVIF", speed=10),
}


@pytest.mark.parametrize("content", IMAGES.values(), ids=IMAGES)
def test_the_size_is_read_from_content_and_from_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(content)
    assert image_size(content) == image_size(path) == (301, 37)


@pytest.mark.parametrize("content", IMAGES.values(), ids=IMAGES)
def test_the_size_of_a_damaged_image_raises_nothing(content: bytes) -> None:
    random = np.random.default_rng(5)
    for end in (*range(0, 70, 3), 100, 200, len(content) // 2):
        assert image_size(content[:end]) in (None, (301, 37))
    for _ in range(60):
        damaged = bytearray(content[:2000])
        for place in random.integers(8, min(200, len(damaged)), 6):
            damaged[place] = random.integers(256)
        size = image_size(bytes(damaged))
        assert size is None or min(size) > 0


def test_an_image_may_be_larger_than_pillow_likes() -> None:
    header = struct.pack(">I4sIIBBBBB", 13, b"IHDR", 40_000, 30_000, 8, 2, 0, 0, 0)
    assert image_size(b"\x89PNG\r\n\x1a\n" + header + bytes(4)) == (40_000, 30_000)


def bigtiff(order: str, kind: int) -> bytes:
    layout = {3: "H6x", 4: "I4x", 16: "Q"}[kind]
    entries = [
        struct.pack(f"{order}HHQ{layout}", tag, kind, 1, value)
        for tag, value in ((254, 0), (256, 301), (257, 37))
    ]
    sign = b"II+\0" if order == "<" else b"MM\0+"
    return sign + struct.pack(f"{order}HHQQ", 8, 0, 16, 3) + b"".join(entries)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4, 16])
def test_the_size_of_a_bigtiff_is_read(order: str, kind: int) -> None:
    assert image_size(bigtiff(order, kind)) == (301, 37)


def test_a_video_has_no_image_size() -> None:
    assert image_size(b"\0\0\x01\xb3\x14\0\xf0\x13" + bytes(20)) is None


@pytest.mark.parametrize("name", HEADS)
def test_a_signature_alone_has_no_size(name: str) -> None:
    assert image_size(HEADS[name][0][:8]) is None


def test_an_image_of_no_pixels_has_no_size() -> None:
    assert image_size(b"GIF89a" + bytes(20)) is None


def test_a_jpeg_whose_segment_has_no_length_is_not_read_for_ever() -> None:
    assert image_size(b"\xff\xd8\xff\xe0\0\0" * 50) is None


@pytest.mark.parametrize(
    ("filename", "head", "expected"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n", True),
        ("a.jpg", b"\x89PNG\r\n\x1a\n", True),
        ("a", b"\x89PNG\r\n\x1a\n", True),
        ("a.tga", b"\0\0\x02" + bytes(15), True),
        ("a.obj", b"v 0 0 0\n", True),
        ("a.csv", b"1,2\n", True),
        ("a.png", b'{"error": "expired"}', False),
        ("a.webp", b"RIFF", False),
        ("a.mkv", b"", False),
        ("a", b"some words", False),
        ("a.bin", bytes(20), False),
    ],
)
def test_a_name_makes_a_file_known_only_where_its_bytes_cannot(
    filename: str, head: bytes, expected: bool
) -> None:
    assert is_recognised(filename, head) is expected
