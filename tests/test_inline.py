"""Data URLs and base64: what is one, what it holds, and what is said of one that is broken."""

from __future__ import annotations

import base64
import hashlib
import random
import string
import tracemalloc
import uuid
from collections.abc import Callable
from urllib.parse import quote

import pytest

from comfyui_stateless.errors import InvalidInput
from comfyui_stateless.inline import CHUNK_CHARACTERS, Inline, decode, is_inline

SIGNATURES = {
    "image/png": (b"\x89PNG\r\n\x1a\n", ".png"),
    "image/jpeg": (b"\xff\xd8\xff", ".jpg"),
    "image/gif": (b"GIF89a", ".gif"),
    "image/webp": (b"RIFF\x20\0\0\0WEBP", ".webp"),
    "image/avif": (b"\0\0\0\x14ftypavif\0\0\0\0mif1", ".avif"),
    "image/tiff": (b"II*\0", ".tiff"),
    "video/mp4": (b"\0\0\0\x14ftypisom\0\0\0\0avc1", ".mp4"),
    "video/webm": (b"\x1a\x45\xdf\xa3B\x82\x84webm", ".webm"),
    "audio/wav": (b"RIFF\x20\0\0\0WAVE", ".wav"),
    "audio/flac": (b"fLaC\0", ".flac"),
    "audio/mpeg": (b"ID3\x04\0\0\0\0\x02\x7f", ".mp3"),
    "model/gltf-binary": (b"glTF\x02\0\0\0", ".glb"),
    "application/x-safetensors": (b'\x3c\0\0\0\0\0\0\0{"', ".safetensors"),
}

PNG = SIGNATURES["image/png"][0]


def standard(data: bytes) -> str:
    return base64.b64encode(data).decode()


def url_safe(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


def unpadded(data: bytes) -> str:
    return standard(data).rstrip("=")


def url_safe_and_unpadded(data: bytes) -> str:
    return url_safe(data).rstrip("=")


def lines(data: bytes, width: int) -> list[str]:
    text = standard(data)
    return [text[at : at + width] for at in range(0, len(text), width)]


def wrapped(data: bytes) -> str:
    return "\n".join(lines(data, 76)) + "\n"


def wrapped_for_mail(data: bytes) -> str:
    return "\r\n".join(lines(data, 64))


def indented(data: bytes) -> str:
    return "\n  \t" + "\n  \t".join(lines(data, 19))


CODINGS = [
    standard, url_safe, unpadded, url_safe_and_unpadded, wrapped, wrapped_for_mail, indented,
]  # fmt: skip


FEW = 5
"""Characters at once, so that a short text comes in many pieces, with edges everywhere."""


def held(text: str, chunk: int = CHUNK_CHARACTERS) -> Inline:
    found = decode(text, chunk=chunk)
    assert found is not None
    return found


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("media_type", SIGNATURES)
def test_what_is_encoded_comes_back_bare_and_in_data_urls(
    media_type: str, coding: Callable[[bytes], str]
) -> None:
    signature, extension = SIGNATURES[media_type]
    chance = random.Random(7)
    for size in (*range(9), 57, 200, 401):
        data = signature + chance.randbytes(size)
        text = coding(data)
        for form in (text, f"data:;base64,{text}", f"data:image/png;base64,{quote(text)}"):
            found = held(form, FEW)
            assert found.data == data
            assert (found.media_type, found.extension) == (media_type, extension)
            assert found.digest == hashlib.sha256(data).hexdigest()
            assert is_inline(form)


@pytest.mark.parametrize("size", [1, 256 * 1024 * 3 // 4, 1_000_001])
def test_what_is_larger_than_a_piece_comes_back(size: int) -> None:
    data = PNG + random.Random(1).randbytes(size)
    assert held(wrapped(data)).data == data
    assert held(f"data:image/png;base64,{standard(data)}").data == data
    assert held(f"data:,{quote(data)}").data == data


def test_a_jpeg_of_three_bytes_is_base64_and_no_path() -> None:
    assert held("/9j/").media_type == "image/jpeg"


NAMES = [
    "", " ", "\n", "image.png", "subfolder/abc.png", "/data/in/abc.png", "ComfyUI_00001_", "ComfyUI_00001_.png",
    "AAAA", "AAAAAAAA", "none", "None", "example", "/", "//", "///", "////", "/workspace/ComfyUI/input/abc",
    "/workspace/abcd", "/worker", "//server/share/file", "//srv/share", "//uv", "C:\\a\\b.png", "a b c",
    "clipspace/clipspace-mask-123.png [input]", "3d/model.glb", "https://example.com/a.png", "s3://b/k.png",
    "upload://picture", "database", "datafile", "data", "metadata:a,b", "Qk", "Qk0", "R0l", "iVBO", "SUkq",
    "UEsD", "SUQz", "AAAB", "AAABAA", "JVBE", "\ud800", "\U0001f600.png", "d41d8cd98f00b204e9800998ecf8427e",
    hashlib.sha1(b"x").hexdigest(), hashlib.sha256(b"x").hexdigest(), str(uuid.UUID(int=5)), "=", "====",
    "%89PNG", "x" * 100_000, "A" * 100_000, "/" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:30]))
def test_a_name_or_an_address_is_no_file(name: str) -> None:
    assert decode(name) is None
    assert not is_inline(name)


def test_names_at_random_are_no_files_and_raise_nothing() -> None:
    chance = random.Random(11)
    alphabets = [string.hexdigits, string.ascii_letters + string.digits + "+/-_", string.printable]
    for number in range(30_000):
        text = "".join(chance.choices(alphabets[number % 3], k=chance.randrange(1, 60)))
        assert decode(text) is None, text


def test_every_text_of_three_letters_is_a_name() -> None:
    letters = "".join(sorted(set("/+=_-019" + "AQRSTUVZGIabiklwxyz")))
    assert not any(is_inline(a + b + c) for a in letters for b in letters for c in letters)


@pytest.mark.parametrize("place", [12, 13, 40, 41, 42, 43, 86])
@pytest.mark.parametrize("wrong", [".", "=", "é", "\ud800", "\0", "%"])
@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_base64_with_something_else_in_it_is_refused(prefix: str, wrong: str, place: int) -> None:
    text = standard(PNG + bytes(60))
    with pytest.raises(InvalidInput, match=f"behind {place} characters") as caught:
        decode(f"{prefix}{text[:place]}{wrong}{text[place:]}", chunk=FEW)
    assert text[:12] not in caught.value.message


@pytest.mark.parametrize("place", [300_000, 1_000_000, 1_333_340])
def test_the_place_of_the_mistake_is_named_in_large_texts(place: int) -> None:
    text = standard(PNG + bytes(1_000_000))
    with pytest.raises(InvalidInput, match=f"behind {place:,} characters"):
        decode(f"{text[:place]}!{text[place:]}")


@pytest.mark.parametrize("size", [52, 53, 54])
def test_base64_that_breaks_off_within_a_byte_is_refused(size: int) -> None:
    text = unpadded(PNG + bytes(size))
    broken = text[: len(text) // 4 * 4 - 3]
    for form in (broken, f"data:image/png;base64,{broken}", f"{broken}==="):
        with pytest.raises(InvalidInput, match="breaks off"):
            decode(form, chunk=FEW)


def test_base64_with_more_padding_than_there_can_be_is_refused() -> None:
    with pytest.raises(InvalidInput, match="padding"):
        decode(standard(PNG) + "=====", chunk=FEW)


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><text>\xc3\xa9 &amp; #1</text></svg>'


@pytest.mark.parametrize(
    "text",
    [
        "data:image/svg+xml," + quote(SVG),
        "data:image/svg+xml;charset=utf-8," + quote(SVG, safe=" <>&#;=:/\""),
        "data:image/svg+xml;utf8," + SVG.decode(),
        "data:," + SVG.decode(),
        "data:text/plain;charset=utf-8;base64," + standard(SVG),
        "DATA:Image/SVG+XML;Base64," + standard(SVG),
        " \r\ndata: image/svg+xml ; charset=utf-8 ; base64 , " + standard(SVG),
        "data:;base64," + url_safe_and_unpadded(SVG),
    ],
)  # fmt: skip
def test_data_urls_come_in_many_forms(text: str) -> None:
    found = held(text, FEW)
    assert found.data == SVG
    assert (found.media_type, found.extension) == ("image/svg+xml", ".svg")


@pytest.mark.parametrize(
    ("declared", "media_type", "extension"),
    [
        ("image/x-tga", "image/x-tga", ".tga"),
        ("IMAGE/JPG", "image/jpg", ".jpg"),
        ("model/stl; name=a", "model/stl", ".stl"),
        ("audio/unheard-of", "audio/unheard-of", ".bin"),
        ("video/../../etc", "video/../../etc", ".bin"),
    ],
)
def test_bytes_that_tell_nothing_are_what_they_are_declared_to_be(
    declared: str, media_type: str, extension: str
) -> None:
    found = held(f"data:{declared};base64,{standard(b'anything')}")
    assert (found.media_type, found.extension) == (media_type, extension)


@pytest.mark.parametrize("declared", ["", "text/plain", "text/html", "application/octet-stream"])
@pytest.mark.parametrize("data", ["aGVsbG8=", ""])
def test_a_data_url_of_no_media_is_refused(declared: str, data: str) -> None:
    with pytest.raises(InvalidInput, match="no image, video, sound or 3D model"):
        decode(f"data:{declared};base64,{data}")


def test_an_empty_data_url_is_refused() -> None:
    with pytest.raises(InvalidInput):
        decode("data:image/png;base64,")


@pytest.mark.parametrize("text", ["data:", "data:image/png;base64", "data:" + "a" * 2000 + ",b"])
def test_a_data_url_without_its_comma_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="comma"):
        decode(text)


def test_a_jpeg_xl_codestream_looks_like_a_path_and_needs_a_data_url() -> None:
    codestream = b"\xff\x0a\x2b\xff" + bytes(50)
    assert decode(standard(codestream)) is None
    assert held(f"data:;base64,{standard(codestream)}").media_type == "image/jxl"


def test_its_bytes_are_in_no_repr() -> None:
    assert "secret" not in repr(held(standard(PNG + b"secret")))


def peak_of(text: str) -> int:
    tracemalloc.start()
    try:
        held(text)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_decoding_takes_the_memory_of_one_copy() -> None:
    size = 16 * 1024 * 1024
    data = PNG + bytes(size)
    for text in (standard(data), wrapped_for_mail(data), f"data:image/png;base64,{standard(data)}"):
        assert peak_of(text) < 1.3 * size


def test_percent_codes_take_no_more_memory_than_what_they_hold() -> None:
    size = 1024 * 1024
    assert peak_of("data:image/png," + quote(PNG) + "%00" * size) < 1.3 * size + 32 * 1024 * 1024
