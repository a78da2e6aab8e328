"""JPEG, WebP, AVIF and PNG by libvips, with the same results as the library sharp.

libvips is what sharp is built on; the names of its options are at
https://www.libvips.org/API/current/. Every call here releases the GIL and may be made from any
thread, but not after a fork: libvips' own threads would be missing there.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import ConversionError
from .embedded import (
    EXIF_LIMIT,
    EXIF_PREFIX,
    Text,
    exif_of_text,
    text_of_exif,
    with_avif_exif,
    with_jpeg_exif,
    with_webp_exif,
)
from .frame import Frame
from .options import AvifOptions, JpegOptions, Options, PngOptions, WebpOptions
from .png import HEADER_BYTES, text_chunks

Image: TypeAlias = Any
"""A pyvips.Image; pyvips has no types, and is imported when it is first needed."""

_MOZJPEG = {
    "trellisQuantisation": True,
    "overshootDeringing": True,
    "optimizeScans": True,
    "quantisationTable": 3,
}
_UNLIMITED = 1 << 30
_ROOM = EXIF_PREFIX + exif_of_text([("prompt", "")], _UNLIMITED)
_ICC, _EXIF, _PAGES = "icc-profile-data", "exif-data", "n-pages"


@functools.cache
def _pyvips() -> Any:
    logging.getLogger("pyvips").setLevel(logging.ERROR)
    try:
        import pyvips
    except Exception as error:  # a broken package may raise anything
        raise ConversionError(
            "convert_output needs libvips, which cannot be loaded: install it with "
            "pip install pyvips pyvips-binary."
        ) from error
    # It remembers operations on equal files; ours are all different, and large.
    pyvips.cache_set_max(0)
    # Images are encoded side by side, so one thread each does; more of them only change AVIF's
    # bytes, by splitting it into tiles. Older versions of pyvips cannot set it.
    if hasattr(pyvips, "concurrency_set"):
        pyvips.concurrency_set(1)
    return pyvips


@contextmanager
def _errors(action: str) -> Iterator[None]:
    pyvips = _pyvips()
    try:
        yield
    except pyvips.Error as error:
        reason = " ".join((error.detail or error.message).split())
        raise ConversionError(f"{action}: {reason}.") from error


def from_frame(frame: Frame) -> Image:
    """Return the frame's pixels as an image of libvips, without a copy."""
    rows = frame.rows()
    height, width = frame.pixels.shape[:2]
    with _errors("The image cannot be read"):
        image = _pyvips().Image.new_from_memory(rows, width, height, frame.channels, "uchar")
        return image.copy(interpretation="srgb" if frame.channels > 2 else "b-w")


def from_file(file: bytes | Path) -> Image:
    """Open an image file, or its content.

    Raises:
        ConversionError: The file is damaged at its beginning; damage further on, or a file that
            breaks off, shows when it is saved.
    """
    source = _pyvips().Source
    with _errors("The image cannot be read"):
        return _pyvips().Image.new_from_source(
            source.new_from_memory(file)
            if isinstance(file, bytes)
            else source.new_from_file(str(file)),
            "",
            access="sequential",
            fail_on="error",
        )


def page_count(image: Image) -> int:
    """Return the number of pages, or frames, that the image's file has."""
    return int(image.get(_PAGES)) if image.get_typeof(_PAGES) else 1


def embedded_text(image: Image) -> Text:
    """Return the texts in the EXIF of the image's file."""
    return text_of_exif(image.get(_EXIF)) if image.get_typeof(_EXIF) else ()


def save(image: Image, options: Options, text: Text) -> bytes:
    """Encode an image; its metadata are dropped, ``text`` is embedded where the options say so.

    Raises:
        ConversionError: The format cannot hold the image, or the image's file is damaged.
    """
    saver = _SAVERS[type(options)]
    with _errors(f"An image of {image.width} by {image.height} pixels cannot be converted"):
        return saver(image, options, text if options.metadata else ())


def _jpeg(image: Image, options: JpegOptions, text: Text) -> bytes:
    chosen = options.model_dump(exclude_unset=True)
    effective = {**options.model_dump(), **(_MOZJPEG if options.mozjpeg else {}), **chosen}
    data: bytes = _in_srgb(image).jpegsave_buffer(
        keep="none",
        Q=options.quality,
        interlace=options.progressive or options.mozjpeg or options.optimizeScans,
        subsample_mode=_subsample_mode(options.chromaSubsampling),
        optimize_coding=options.optimizeCoding,
        trellis_quant=effective["trellisQuantisation"],
        overshoot_deringing=effective["overshootDeringing"],
        optimize_scans=effective["optimizeScans"],
        quant_table=effective["quantisationTable"],
    )
    exif = exif_of_text(text, EXIF_LIMIT)
    return with_jpeg_exif(data, exif) if exif else data


def _webp(image: Image, options: WebpOptions, text: Text) -> bytes:
    exif = exif_of_text(text, _UNLIMITED)
    data: bytes = _with_room(_in_srgb(image)).webpsave_buffer(
        keep="exif" if exif else "none",
        Q=options.quality,
        alpha_q=options.alphaQuality,
        lossless=options.lossless,
        near_lossless=options.nearLossless,
        smart_subsample=options.smartSubsample,
        preset=options.preset,
        effort=options.effort,
    )
    return with_webp_exif(data, exif) if exif else data


def _avif(image: Image, options: AvifOptions, text: Text) -> bytes:
    exif = exif_of_text(text, _UNLIMITED)
    data: bytes = _with_room(_in_srgb(image)).heifsave_buffer(
        keep="exif" if exif else "none",
        compression="av1",
        bitdepth=8,
        Q=options.quality,
        lossless=options.lossless,
        effort=options.effort,
        subsample_mode=_subsample_mode(options.chromaSubsampling),
    )
    return with_avif_exif(data, exif) if exif else data


def _png(image: Image, options: PngOptions, text: Text) -> bytes:
    data: bytes = _in_srgb(image, "b-w", "rgb16", "grey16").pngsave_buffer(
        keep="none",
        compression=options.compressionLevel,
        filter="all" if options.adaptiveFiltering else "none",
        interlace=options.progressive,
    )
    return data[:HEADER_BYTES] + text_chunks(text) + data[HEADER_BYTES:]


_SAVERS: dict[type[Options], Callable[[Image, Any, Text], bytes]] = {
    JpegOptions: _jpeg,
    WebpOptions: _webp,
    AvifOptions: _avif,
    PngOptions: _png,
}


def _subsample_mode(chroma: str) -> str:
    return "off" if chroma == "4:4:4" else "on"


def _with_room(image: Image) -> Image:
    """Have libvips write a place for EXIF, where it may: its own holds no more than 64 KiB."""
    image = image.copy()
    image.set_type(_pyvips().GValue.blob_type, _EXIF, _ROOM)
    return image


def _in_srgb(image: Image, *kept: str) -> Image:
    """Convert to sRGB, as sharp does: by the embedded profile, if any; other ``kept`` spaces stay."""
    if image.get_typeof(_ICC) and image.interpretation != "grey16":
        image = _by_profile(image)
    elif image.interpretation == "cmyk":
        image = image.icc_transform("srgb", input_profile="cmyk", intent="perceptual")
    if image.interpretation in ("srgb", *kept):
        return image
    return image.colourspace("srgb", source_space=image.interpretation)


def _by_profile(image: Image) -> Image:
    depth = 16 if image.interpretation == "rgb16" else 8
    try:
        return image.icc_transform("srgb", embedded=True, depth=depth, intent="perceptual")
    except _pyvips().Error:
        return image
