"""Media types by content before name, and image sizes from headers."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from comfyui_stateless.media import image_size, kind, media_type


def mp4(brand: bytes) -> bytes:
    return b"\0\0\0\x20ftyp" + brand + bytes(20)


def ogg(codec: bytes) -> bytes:
    return b"OggS\0\x02" + bytes(20) + b"\0\x1e" + codec


HEADS = {
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png"),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
    "gif": (b"GIF89a\x01\0\x01\0", "image/gif"),
    "old gif": (b"GIF87a\x01\0\x01\0", "image/gif"),
    "webp": (b"RIFF\x20\0\0\0WEBPVP8 ", "image/webp"),
    "tiff": (b"II*\0\x08\0\0\0", "image/tiff"),
    "big-endian tiff": (b"MM\0*\0\0\0\x08", "image/tiff"),
    "bmp": (b"BM\x36\x30\0\0\0\0\0\0\x36\0\0\0", "image/bmp"),
    "avif": (mp4(b"avif"), "image/avif"),
    "avif sequence": (mp4(b"avis"), "image/avif"),
    "heic": (mp4(b"heic"), "image/heic"),
    "jxl": (b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
    "exr": (b"v/1\x01\x02\0\0\0", "image/x-exr"),
    "psd": (b"8BPS\0\x01", "image/vnd.adobe.photoshop"),
    "svg": (b'<?xml version="1.0"?>\n<svg xmlns="http://www', "image/svg+xml"),
    "mp4": (mp4(b"isom"), "video/mp4"),
    "mov": (mp4(b"qt  "), "video/quicktime"),
    "m4a": (mp4(b"M4A "), "audio/mp4"),
    "webm": (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", "video/webm"),
    "mkv": (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\x82\x88matroska", "video/x-matroska"),
    "avi": (b"RIFF\x20\0\0\0AVI LIST", "video/x-msvideo"),
    "flv": (b"FLV\x01\x05", "video/x-flv"),
    "wav": (b"RIFF\x20\0\0\0WAVEfmt ", "audio/wav"),
    "flac": (b"fLaC\0\0\0\x22", "audio/flac"),
    "mp3 with tag": (b"ID3\x04\0\0\0", "audio/mpeg"),
    "mp3": (b"\xff\xfb\x90\x64", "audio/mpeg"),
    "mpeg-2 mp3": (b"\xff\xf3\x40\xc0", "audio/mpeg"),
    "aac": (b"\xff\xf1\x50\x80", "audio/aac"),
    "opus": (ogg(b"OpusHead"), "audio/ogg"),
    "theora": (ogg(b"\x80theora"), "video/ogg"),
    "glb": (b"glTF\x02\0\0\0", "model/gltf-binary"),
    "pdf": (b"%PDF-1.7", "application/pdf"),
}


@pytest.mark.parametrize(("head", "expected"), HEADS.values(), ids=HEADS)
def test_the_content_decides_whatever_the_name_says(head: bytes, expected: str) -> None:
    assert media_type("output.txt", head) == expected
    assert media_type("", head) == expected


@pytest.mark.parametrize("head", [b"", b"BM", b"BMW is a car", b"RIFF....", b"plain", b"\xff\xfe"])
def test_where_the_content_tells_nothing_the_extension_does(head: bytes) -> None:
    assert media_type("a/b.c.txt", head) == "text/plain"


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


@pytest.mark.parametrize("name", HEADS)
def test_a_signature_alone_has_no_size(name: str) -> None:
    assert image_size(HEADS[name][0][:8]) is None


def test_an_image_of_no_pixels_has_no_size() -> None:
    assert image_size(b"GIF89a" + bytes(20)) is None


def test_a_jpeg_whose_segment_has_no_length_is_not_read_for_ever() -> None:
    assert image_size(b"\xff\xd8\xff\xe0\0\0" * 50) is None
