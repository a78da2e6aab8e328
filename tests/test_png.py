"""Our PNG encoder: the same pixels and texts as SaveImage's, in files about as large."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from PIL.PngImagePlugin import PngInfo

from comfyui_stateless.errors import ConversionError
from comfyui_stateless.images import Frame, encode_png

Pixels = NDArray[np.uint8]


def noise(*shape: int) -> Pixels:
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def gradient(*shape: int) -> Pixels:
    return np.asarray(np.indices(shape).sum(0), np.uint8)


def flat(*shape: int) -> Pixels:
    return np.full(shape, 200, dtype=np.uint8)


def decoded(png: bytes) -> Pixels:
    image = Image.open(BytesIO(png))
    image.load()
    return np.asarray(image)


def by_pillow(pixels: Pixels, text: tuple[tuple[str, str], ...] = ()) -> bytes:
    """Encode as ComfyUI's SaveImage does."""
    info, file = PngInfo(), BytesIO()
    for keyword, value in text:
        info.add_text(keyword, value)
    Image.fromarray(pixels).save(file, "PNG", pnginfo=info, compress_level=4)
    return file.getvalue()


def before_pixels(png: bytes) -> bytes:
    return png[: png.index(b"IDAT") - 4]


SHAPES = [
    (1, 1), (1, 1, 3), (1, 19, 4), (23, 1, 2), (61, 97, 3), (64, 64, 3), (300, 301), (301, 300, 2),
    (257, 513, 3), (191, 333, 4), (2, 40_000, 3), (1, 70_000), (40_000, 2, 4),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("make", [noise, gradient, flat])
def test_the_decoded_pixels_are_those_of_the_frame(make: Any, shape: tuple[int, ...]) -> None:
    pixels = make(*shape)
    png = encode_png(Frame(pixels))
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[shape[2] if len(shape) == 3 else 1]
    assert Image.open(BytesIO(png)).mode == mode
    assert np.array_equal(decoded(png), pixels)


def test_a_single_channel_of_three_dimensions_is_grey() -> None:
    pixels = noise(9, 7, 1)
    assert np.array_equal(decoded(encode_png(Frame(pixels))), pixels[:, :, 0])


def test_a_large_image_survives_its_many_bands() -> None:
    pixels = np.add.outer(np.arange(4099) * 7, np.arange(4097) ** 2 // 5).astype(np.uint8)
    assert np.array_equal(decoded(encode_png(Frame(pixels))), pixels)


@pytest.mark.parametrize("filter_type", range(4), ids=["none", "sub", "up", "average"])
def test_every_filter_is_chosen_where_it_is_best(filter_type: int) -> None:
    steps = np.random.default_rng(1).integers(-2, 3, (256, 384))
    pixels = [
        np.where(noise(256, 384) < 9, noise(256, 384), 0).astype(np.uint8),
        (128 + steps.cumsum(1)).astype(np.uint8),
        (128 + steps.cumsum(0)).astype(np.uint8),
        pictures()["photo"],
    ][filter_type]
    png = encode_png(Frame(pixels))
    assert first_filter(png) == filter_type
    assert np.array_equal(decoded(png), pixels)


def first_filter(png: bytes) -> int:
    data, position = b"", 8
    while position < len(png):
        end = position + 8 + int.from_bytes(png[position : position + 4], "big")
        data += png[position + 8 : end] if png[position + 4 : position + 8] == b"IDAT" else b""
        position = end + 4
    return zlib.decompress(data)[0]


def pictures() -> dict[str, Pixels]:
    """Pictures of several kinds, 512 by 512."""
    n, random = 512, np.random.default_rng(3)
    y, x = np.mgrid[0:n, 0:n]
    raw = Image.fromarray(noise(n, n, 3))
    frequency = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.fftfreq(n)[None]) + 1 / n
    spectrum = np.fft.fft2(random.standard_normal((n, n, 3)), axes=(0, 1)) / frequency[..., None]
    natural = np.fft.ifft2(spectrum, axes=(0, 1)).real
    photo = (natural - natural.min()) * (255 / np.ptp(natural)) + random.normal(0, 2, (n, n, 3))
    blurred = np.asarray(raw.filter(ImageFilter.GaussianBlur(6)))
    drawing = (noise(32, 32, 3) // 64 * 64).repeat(16, 0).repeat(16, 1)
    lines = np.where((x * y // 97 % 31 < 2)[..., None], 0, drawing).astype(np.uint8)
    return {
        "noise": noise(n, n, 3),
        "photo": photo.clip(0, 255).astype(np.uint8),
        "blurred": blurred,
        "depth map": np.ascontiguousarray(blurred[:, :, :1].repeat(3, 2)),
        "radial gradient": np.hypot(x - 200, y - 300).clip(0, 255).astype(np.uint8),
        "gradient": gradient(n, n, 3),
        "flat": flat(n, n, 3),
        "drawing": lines,
        "transparent": np.dstack([photo.clip(0, 255).astype(np.uint8), flat(n, n)]),
    }


@pytest.mark.parametrize("name", pictures())
def test_files_are_at_most_a_fifth_larger_than_those_of_saveimage(name: str) -> None:
    pixels = pictures()[name]
    theirs = len(by_pillow(pixels))
    assert len(encode_png(Frame(pixels))) <= max(1.2 * theirs, 64 * 1024)


TEXTS = {
    "json": (("prompt", json.dumps({"3": {"class_type": "KSampler"}})), ("workflow", "{}")),
    "latin-1": (("parameters", "Crème brûlée"),),
    "unicode": (("workflow", json.dumps({"title": "日本語 🎨"}, ensure_ascii=False)),),
    "long": (("workflow", json.dumps({"nodes": list(range(50_000))})),),
    "empty": (("prompt", ""),),
    "repeated": (("note", "a"), ("note", "b")),
    "none": (),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_header_and_text_chunks_are_those_that_saveimage_writes(
    text: tuple[tuple[str, str], ...],
) -> None:
    pixels = noise(5, 4, 3)
    ours, theirs = encode_png(Frame(pixels, text)), by_pillow(pixels, text)
    assert before_pixels(ours) == before_pixels(theirs)


def test_a_keyword_that_png_cannot_hold_is_named_in_the_error() -> None:
    with pytest.raises(ConversionError, match=r"u65e5.* not Latin-1"):
        encode_png(Frame(noise(2, 2), (("日", "x"),)))


def test_pixels_need_not_be_contiguous() -> None:
    pixels = noise(50, 60, 4)
    for view in (pixels[::2, 5:40, :3], pixels.transpose(1, 0, 2), pixels[:, ::-1]):
        assert np.array_equal(decoded(encode_png(Frame(view))), view)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
    ],
    ids=lambda pixels: f"{pixels.shape} {pixels.dtype}",
)
def test_pixels_that_no_image_file_holds_are_refused(pixels: Any) -> None:
    with pytest.raises(ConversionError, match="An image needs pixels"):
        Frame(pixels)


def test_threads_may_encode_at_once() -> None:
    # Pixels, not bytes: what the compressor makes of them need not be the same twice.
    frames = [Frame(pixels) for pixels in pictures().values()] * 2
    alone = [decoded(encode_png(frame)) for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        together = [decoded(png) for png in pool.map(encode_png, frames)]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_zlib_takes_over_where_isal_is_missing() -> None:
    script = """
import sys
sys.modules["isal"] = None
import io, numpy, PIL.Image
from comfyui_stateless.images import Frame, encode_png
for shape in [(64, 64, 3), (400, 300, 3)]:
    pixels = numpy.random.default_rng(1).integers(0, 256, shape, dtype=numpy.uint8)
    decoded = PIL.Image.open(io.BytesIO(encode_png(Frame(pixels))))
    assert (numpy.asarray(decoded) == pixels).all()
assert not any(name.startswith("isal.") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
