"""Conversion: the same files as the library sharp makes, and nothing passed under a wrong format.

``data/sharp.json`` holds what sharp made of the pixels below and of a few small files
(``data/sharp.mjs`` wrote it). With the libvips that sharp had, ours must be equal to the byte;
with another one, about as large and of about the same colours.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import TypeAdapter

from comfyui_stateless.errors import ConversionError
from comfyui_stateless.images import ConvertOutput, Frame, convert_file, encode, encode_png
from comfyui_stateless.images.embedded import text_of_png

GOLDEN = json.loads((Path(__file__).parent / "data" / "sharp.json").read_text())
CHANNELS = {"grey": [0], "grey_alpha": [0, 3], "rgb": [0, 1, 2], "rgba": [0, 1, 2, 3]}
TEXT = (
    ("prompt", json.dumps({"1": {"inputs": {"text": "é, (x)"}}})),
    ("workflow", json.dumps({"nodes": []})),
)


def to(format: str, **options: Any) -> ConvertOutput:
    output: ConvertOutput = TypeAdapter(ConvertOutput).validate_python(
        {"format": format, "options": options}
    )
    return output


def pixels(name: str) -> NDArray[np.uint8]:
    """The pixels of ``data/sharp.mjs``, [height, width, channels]."""
    width, height = GOLDEN["size"]
    i = np.arange(width * height)
    slopes = [
        i % width * (c + 2) + i // width * (5 - c) + i * i * 31 % 23 & 255 for c in CHANNELS[name]
    ]
    return np.stack(slopes, -1).astype(np.uint8).reshape(height, width, -1)


def opened(content: bytes) -> Any:
    image = Image.open(BytesIO(content))
    image.load()
    return image


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def picture(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(pixels("rgba")).convert(mode)


def converted(content: bytes | Path, convert: ConvertOutput) -> bytes:
    result = convert_file(content, convert)
    assert result is not None
    return result


def means(content: bytes) -> list[float]:
    """The mean of red, green, blue and alpha."""
    rgba = np.asarray(opened(content).convert("RGBA"), np.float64)
    return [float(mean) for mean in rgba.mean((0, 1))]


def assert_is_sharps(content: bytes, golden: dict[str, Any]) -> None:
    import pyvips

    assert Image.open(BytesIO(content)).format == golden["format"].upper()
    assert len(content) == pytest.approx(golden["bytes"], rel=0.5)
    assert means(content) == pytest.approx(golden["means"], abs=10)
    if ".".join(str(pyvips.version(part)) for part in range(3)) == GOLDEN["vips"]:
        assert hashlib.sha256(content).hexdigest() == golden["sha256"]


def case_id(golden: dict[str, Any]) -> str:
    options = ",".join(f"{key}={value}" for key, value in golden["options"].items())
    return f"{golden['name']}-{golden['format']}-{options}"


@pytest.mark.parametrize("golden", GOLDEN["pixels"], ids=case_id)
def test_every_option_makes_of_pixels_what_sharp_makes(golden: dict[str, Any]) -> None:
    frame = Frame(pixels(golden["name"]), TEXT)
    assert_is_sharps(encode(frame, to(golden["format"], **golden["options"])), golden)


@pytest.mark.parametrize("golden", GOLDEN["files"], ids=case_id)
def test_files_of_every_kind_become_what_sharp_makes_of_them(golden: dict[str, Any]) -> None:
    content = base64.b64decode(golden["content"])
    assert_is_sharps(converted(content, to(golden["format"])), golden)


def test_jpg_is_jpeg() -> None:
    frame = Frame(pixels("rgb"))
    assert encode(frame, to("jpg", quality=60)) == encode(frame, to("jpeg", quality=60))


@pytest.mark.parametrize(
    ("options", "is_progressive"),
    [
        ({}, False),
        ({"progressive": True}, True),
        ({"optimizeScans": True}, True),
        ({"mozjpeg": True, "optimizeScans": False, "progressive": False}, True),
    ],
    ids=str,
)
def test_options_that_imply_progressive_scans_have_them(
    options: dict[str, Any], is_progressive: bool
) -> None:
    jpeg = opened(encode(Frame(pixels("rgb")), to("jpeg", **options)))
    assert bool(jpeg.info.get("progressive")) is is_progressive


@pytest.mark.parametrize("format", ["webp", "avif"])
@pytest.mark.parametrize("name", ["rgb", "rgba"])
def test_lossless_keeps_the_pixels(format: str, name: str) -> None:
    frame = Frame(np.where(pixels(name) > 250, 255, pixels(name) | 1))
    image = opened(encode(frame, to(format, lossless=True, effort=0)))
    error = np.abs(np.asarray(image).astype(int) - frame.pixels)
    assert error.max() <= (0 if format == "webp" else 3)


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize(
    "options",
    [{}, {"compressionLevel": 9}, {"adaptiveFiltering": False}, {"progressive": True}],
    ids=str,
)
def test_png_keeps_the_pixels_whatever_the_options(name: str, options: dict[str, Any]) -> None:
    frame = Frame(pixels(name), TEXT)
    image = opened(encode(frame, to("png", **options)))
    assert np.array_equal(np.asarray(image).reshape(frame.pixels.shape), frame.pixels)
    assert image.text == dict(TEXT)
    assert bool(image.info.get("interlace")) is bool(options.get("progressive"))


def test_png_without_options_is_what_no_conversion_gives() -> None:
    frame = Frame(pixels("rgb"), TEXT)
    assert encode(frame, to("png")) == encode(frame, None) == encode_png(frame)


def test_a_higher_level_makes_a_smaller_png() -> None:
    sizes = [len(encode(Frame(pixels("rgb")), to("png", compressionLevel=n))) for n in (0, 1, 9)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3


@pytest.mark.parametrize("options", [{}, {"compressionLevel": 3}], ids=str)
def test_png_drops_its_metadata_on_request(options: dict[str, Any]) -> None:
    image = opened(encode(Frame(pixels("rgb"), TEXT), to("png", metadata=False, **options)))
    assert not image.text


@pytest.mark.parametrize("format", ["jpeg", "webp", "avif"])
def test_metadata_are_dropped_unless_they_are_asked_for(format: str) -> None:
    frame = Frame(pixels("rgb"), TEXT)
    plain, with_text = encode(frame, to(format)), encode(frame, to(format, metadata=True))
    assert not opened(plain).getexif()
    assert np.array_equal(opened(plain), opened(with_text))
    assert encode(Frame(frame.pixels), to(format, metadata=True)) == plain


def embedded(content: bytes) -> dict[int, str]:
    """The tags where ComfyUI's SaveAnimatedWEBP writes, and its editor reads."""
    exif = opened(content).getexif()
    return {tag: exif[tag] for tag in (0x0110, 0x010F, 0x010E) if tag in exif}


@pytest.mark.parametrize(
    ("format", "name", "options"),
    [
        ("jpeg", "rgb", {}),
        ("jpeg", "grey", {"mozjpeg": True}),
        ("webp", "rgb", {}),
        ("webp", "rgb", {"lossless": True}),
        ("webp", "rgba", {}),
        ("webp", "rgba", {"lossless": True}),
        ("avif", "rgb", {"effort": 0}),
        ("avif", "rgba", {"effort": 0}),
    ],
)
def test_metadata_stand_in_exif_as_comfyui_writes_them(
    format: str, name: str, options: dict[str, Any]
) -> None:
    text = (*TEXT, ("note", "日本語"), ("last", "x"))
    content = encode(Frame(pixels(name), text), to(format, metadata=True, **options))
    assert embedded(content) == {
        0x0110: f"prompt:{TEXT[0][1]}",
        0x010F: f"workflow:{TEXT[1][1]}",
        0x010E: r"note:\u65e5\u672c\u8a9e",
    }


@pytest.mark.parametrize("format", ["webp", "avif"])
def test_a_workflow_of_any_size_is_kept(format: str) -> None:
    workflow = json.dumps({"nodes": list(range(60_000))})
    frame = Frame(pixels("rgb"), (("workflow", workflow),))
    content = encode(frame, to(format, metadata=True, effort=0))
    assert embedded(content) == {0x010F: f"workflow:{workflow}"}
    assert converted(content, to("png")) != content
    assert opened(converted(content, to("png"))).text == {"workflow": workflow}


def test_what_is_too_long_for_a_jpeg_is_left_out_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    text = (("workflow", "w" * 70_000), *TEXT[:1])
    content = encode(Frame(pixels("rgb"), text), to("jpeg", metadata=True))
    assert embedded(content) == {0x0110: f"prompt:{TEXT[0][1]}"}
    assert "no room for its 'workflow' of 70010 bytes" in caplog.text


def test_the_editor_finds_webp_metadata_though_it_skips_no_padding() -> None:
    for width in range(1, 9):
        noise = np.random.default_rng(width).integers(0, 256, (9, width, 4), dtype=np.uint8)
        webp = encode(Frame(noise, TEXT), to("webp", metadata=True, alphaQuality=50))
        position, names = 12, []
        while position < len(webp):
            names.append(webp[position : position + 4])
            position += 8 + struct.unpack_from("<I", webp, position + 4)[0]
        assert names[-1] == b"EXIF"
        assert position == len(webp)


def test_the_editor_finds_avif_metadata_though_it_adds_no_base_offset() -> None:
    avif = encode(Frame(pixels("rgb"), TEXT), to("avif", metadata=True, effort=0))
    exif = avif.rindex(b"II*\0")
    record = struct.pack(">IHII", 0, 1, exif - 4, len(avif) - exif + 4)
    assert record in avif[: avif.index(b"mdat")]


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with more chunks, behind IHDR or, if their name is ``comf``, at the end."""
    png = encode_png(Frame(pixels("rgb")))
    early, late = b"", b""
    for name, data in chunks:
        chunk = struct.pack(">I", len(data)) + name + data
        chunk += struct.pack(">I", zlib.crc32(name + data))
        early, late = (early, late + chunk) if name == b"comf" else (early + chunk, late)
    return png[:33] + early + png[33:-12] + late + png[-12:]


@pytest.mark.parametrize(
    "chunk",
    [
        (b"tEXt", b"prompt\0{}"),
        (b"zTXt", b"prompt\0\0" + zlib.compress(b"{}")),
        (b"iTXt", b"prompt\0\0\0\0\0{}"),
        (b"iTXt", b"prompt\0\1\0en\0Prompt\0" + zlib.compress(b"{}")),
        (b"comf", b"prompt\0{}"),
    ],
    ids=lambda chunk: str(chunk[0]),
)
def test_text_chunks_of_every_kind_are_kept(chunk: tuple[bytes, bytes]) -> None:
    content = png_with(chunk)
    assert opened(converted(content, to("png"))).text == {"prompt": "{}"}
    assert embedded(converted(content, to("webp", metadata=True))) == {0x0110: "prompt:{}"}
    assert not embedded(converted(content, to("webp")))


@pytest.mark.parametrize(
    "chunk",
    [(b"zTXt", b"prompt\0\0nonsense"), (b"iTXt", b"prompt\0\1"), (b"iTXt", b"p\0\0\0\0\0\xff")],
    ids=str,
)
def test_a_damaged_text_chunk_harms_nothing_else(chunk: tuple[bytes, bytes]) -> None:
    content = png_with(chunk, (b"tEXt", b"workflow\0{}"))
    assert embedded(converted(content, to("webp", metadata=True))) == {0x010F: "workflow:{}"}


@pytest.mark.parametrize("format", ["WEBP", "JPEG", "AVIF"])
def test_metadata_of_comfyui_in_exif_are_kept(format: str) -> None:
    exif = Image.Exif()
    exif[0x0110], exif[0x010F] = "prompt:{}", 'workflow:{"a": "b:c"}'
    content = saved(picture(), format, exif=exif.tobytes())
    text = opened(converted(content, to("png"))).text
    assert text == {"prompt": "{}", "workflow": '{"a": "b:c"}'}


@pytest.mark.parametrize("description", ["Canon", "写真: x", ": x", f"{'long' * 20}: x", "a\nb: x"])
def test_what_a_camera_describes_is_no_embedded_text(description: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = description.encode()
    content = saved(picture("RGB"), "JPEG", exif=exif.tobytes())
    assert not opened(converted(content, to("png"))).text


@pytest.mark.parametrize("cut", [0, 7, 20, 28])
def test_damaged_exif_is_dropped(cut: int) -> None:
    exif = Image.Exif()
    exif[0x0110] = "prompt:{}"
    content = saved(picture(), "WEBP", exif=exif.tobytes()[: 6 + cut])
    assert not opened(converted(content, to("png"))).text


def frames(count: int = 3) -> dict[str, Any]:
    others = [picture().rotate(angle) for angle in range(1, count)]
    return {"save_all": True, "append_images": others}


UNCHANGED = {
    "empty": b"",
    "text": b"hello",
    "unknown": bytes(range(256)),
    "latent": struct.pack("<Q", 40) + b'{"latent_tensor":{"dtype":"F32"}}',
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "mp4": b"\0\0\0\x20ftypisom" + bytes(64),
    "webm": b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04webm",
    "flac": b"fLaC\0\0\0\x22" + bytes(64),
    "glb": b"glTF\x02\0\0\0" + bytes(64),
    "exr": b"v/1\x01" + bytes(64),
    "psd": b"8BPS\0\1" + bytes(64),
    "gif": saved(picture(), "GIF", **frames()),
    "webp": saved(picture(), "WEBP", **frames()),
    "apng": saved(picture(), "PNG", **frames()),
    "avif": saved(picture(), "AVIF", speed=10, **frames()),
    "tiff": saved(picture(), "TIFF", **frames()),
}


@pytest.mark.parametrize("name", UNCHANGED)
@pytest.mark.parametrize("format", ["jpeg", "webp", "png"])
def test_what_is_no_still_image_stays_as_it_is(name: str, format: str, tmp_path: Path) -> None:
    path = tmp_path / "output.png"
    path.write_bytes(UNCHANGED[name])
    assert convert_file(path, to(format)) is None
    assert convert_file(UNCHANGED[name], to(format)) is None


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_an_animation_of_one_frame_is_a_still_image(format: str) -> None:
    content = saved(picture(), format, **frames(1))
    if format == "PNG":
        content = png_with((b"acTL", struct.pack(">II", 1, 0)))
    assert opened(converted(content, to("jpeg"))).format == "JPEG"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("format", ["jpeg", "webp", "png"])
def test_pngs_of_every_mode_are_converted(mode: str, format: str) -> None:
    image = picture("L").convert("I;16") if mode == "I;16" else picture(mode)
    image = picture("RGB").convert("P") if mode == "P" else image
    result = opened(converted(saved(image, "PNG"), to(format)))
    assert (result.format, result.size) == (format.upper(), image.size)
    assert ("A" in result.getbands()) is (mode in {"LA", "RGBA"} and format != "jpeg")


def test_png_keeps_sixteen_bits_and_jpeg_takes_the_upper_eight() -> None:
    deep = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    content = saved(Image.fromarray(deep), "PNG")
    assert np.array_equal(opened(converted(content, to("png"))), deep)
    eight = np.asarray(opened(converted(content, to("jpeg", quality=100))).convert("L"))
    assert np.abs(eight.astype(int) - (deep >> 8)).max() <= 2


@pytest.mark.parametrize("mode", ["RGB", "L", "1"])
def test_a_bmp_is_a_still_image(mode: str) -> None:
    content = saved(picture(mode), "BMP")
    result = opened(converted(content, to("png")))
    assert np.array_equal(np.asarray(result.convert(mode)), np.asarray(picture(mode)))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "AVIF", "BMP"])
@pytest.mark.parametrize("part", [0.2, 0.9])
def test_an_image_that_breaks_off_fails_to_convert(format: str, part: float) -> None:
    content = saved(picture(), format)
    with pytest.raises(ConversionError, match=r"cannot be (read|converted): \S"):
        convert_file(content[: int(len(content) * part)], to("webp"))


@pytest.mark.parametrize(
    ("format", "width", "reason"),
    [
        ("webp", 16_384, "too large"),
        ("jpeg", 65_501, "dimension is 65500"),
        ("avif", 16_385, "too large"),
    ],
)
def test_an_image_that_the_format_cannot_hold_fails_with_the_reason(
    format: str, width: int, reason: str
) -> None:
    frame = Frame(np.zeros((1, width), np.uint8))
    with pytest.raises(ConversionError, match=f"{width} by 1 pixels cannot be.*{reason}"):
        encode(frame, to(format))


@pytest.mark.parametrize(
    "name", ["plain.png", "odd [n=2] name.png", "ünï 日本.png", "a.png[x].png"]
)
def test_files_of_any_name_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(saved(picture(), "PNG"))
    assert converted(path, to("webp")) == converted(path.read_bytes(), to("webp"))


def test_a_png_info_as_comfyui_writes_it_survives_two_conversions() -> None:
    info = PngInfo()
    for keyword, value in TEXT:
        info.add_text(keyword, value)
    content = saved(picture(), "PNG", pnginfo=info)
    webp = converted(content, to("webp", metadata=True))
    assert opened(converted(webp, to("png"))).text == dict(TEXT)


def test_threads_may_convert_at_once() -> None:
    work = [
        (Frame(pixels(name), TEXT), to(format, metadata=True))
        for name in CHANNELS
        for format in ("jpeg", "webp", "png")
    ] * 4
    alone = [encode(*each) for each in work]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda each: encode(*each), work)) == alone


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif", "png"])
def test_a_file_that_claims_to_be_vast_is_refused_before_it_is_decoded(name: str) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(180_001) * 4)), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    assert len(bomb) < 1024
    with pytest.raises(ConversionError, match="60000 by 60000 pixels is not converted"):
        convert_file(bomb, to(name))


def test_texts_that_inflate_without_end_are_cut() -> None:
    bomb = b"zTXt", b"prompt\0\0" + zlib.compress(bytes(60 * 1024 * 1024), 9)
    chunk = struct.pack(">I", len(bomb[1])) + b"".join(bomb) + bytes(4)
    texts = text_of_png(BytesIO(b"\x89PNG\r\n\x1a\n" + chunk * 8))
    assert sum(len(value) for _, value in texts) <= 64 * 1024 * 1024 + 8


def test_libvips_stays_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        encode(Frame(pixels("rgb")), to("jpeg"))
    assert caplog.records == []


def in_fresh_python(script: str) -> None:
    start = "import sys, numpy\nfrom comfyui_stateless.images import *\n"
    start += (
        "from comfyui_stateless.errors import ConversionError\nfrom pydantic import TypeAdapter\n"
    )
    start += "to = TypeAdapter(ConvertOutput).validate_python\n"
    start += "frame = Frame(numpy.zeros((8, 8, 3), numpy.uint8))\n"
    subprocess.run([sys.executable, "-c", start + script], check=True)


def test_libvips_is_loaded_only_when_it_is_needed() -> None:
    in_fresh_python(
        "encode(frame, None), encode(frame, to({'format': 'png'}))\n"
        "assert 'pyvips' not in sys.modules\n"
        "encode(frame, to({'format': 'webp'}))\n"
        "assert 'pyvips' in sys.modules\n"
    )


def test_without_libvips_the_error_names_the_package_and_png_works_on() -> None:
    in_fresh_python(
        "sys.modules['pyvips'] = None\n"
        "encode(frame, None), encode(frame, to({'format': 'png'}))\n"
        "try:\n"
        "    encode(frame, to({'format': 'webp'}))\n"
        "    sys.exit('no error')\n"
        "except ConversionError as error:\n"
        "    assert 'pip install pyvips pyvips-binary' in error.message\n"
    )
