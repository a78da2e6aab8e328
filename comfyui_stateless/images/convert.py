"""Images as they are delivered: encoded from pixels, or converted from files that nodes wrote."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import ConversionError
from ..media import HEAD_BYTES, media_type
from . import libvips
from .embedded import is_animated_png, text_of_png
from .frame import Frame
from .options import ConvertOutput, PngOptions
from .png import encode_png

MAX_PIXELS = 0x3FFF * 0x3FFF
"""Of a file that is converted, as in the original's library; encoders take 6 bytes or more for each."""

_PNG, _AVIF = "image/png", "image/avif"
_BY_LIBVIPS = {_PNG, "image/jpeg", "image/webp", "image/gif", "image/tiff", _AVIF}
_BY_PILLOW = {"image/bmp"}


def encode(frame: Frame, convert: ConvertOutput | None) -> bytes:
    """Encode a frame in the format asked for, or as PNG.

    The encoder works on the frame's own pixels. Beside them and the file it holds, in bytes per
    pixel of RGB: next to nothing for the usual PNG (and the file twice), 6 for JPEG and WebP, 24
    for lossless WebP, 30 to 40 for AVIF.

    Raises:
        ConversionError: The format cannot hold the image, or libvips is missing.
    """
    if convert is None:
        return encode_png(frame)
    if isinstance(convert.options, PngOptions) and convert.options.fast:
        return encode_png(frame if convert.options.metadata else Frame(frame.pixels))
    return libvips.save(libvips.from_frame(frame), convert.options, frame.text)


def convert_file(file: bytes | Path, convert: ConvertOutput) -> bytes | None:
    """Convert an image file, given as its path or its content.

    A file counts as a still image if its first bytes say that it is a PNG, JPEG, WebP, GIF, TIFF,
    AVIF or BMP with a single frame or page. Such a file is converted or the call fails: one that
    is damaged or breaks off is never passed on under a wrong format, nor half grey.

    Returns:
        The converted file; None when the file is anything else, and stays as it is.

    Raises:
        ConversionError: The image is damaged, or the format cannot hold it.
        OSError: The file cannot be read.
    """
    with BytesIO(file) if isinstance(file, bytes) else file.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
        found = media_type("", head)
        if found in _BY_PILLOW:
            frame = _read_by_pillow(stream)
            return libvips.save(libvips.from_frame(frame), convert.options, ())
        if found not in _BY_LIBVIPS or _is_sequence(found, head, stream):
            return None
        text = text_of_png(stream) if found == _PNG and convert.options.metadata else ()
    image = libvips.from_file(file)
    if libvips.page_count(image) > 1:
        return None
    _require_within(image.width, image.height)
    return libvips.save(image, convert.options, text or libvips.embedded_text(image))


def _require_within(width: int, height: int) -> None:
    """Refuse what a few bytes may claim to hold, and encoders take memory for."""
    if width * height > MAX_PIXELS:
        raise ConversionError(
            f"An image of {width} by {height} pixels is not converted: it has more than "
            f"{MAX_PIXELS:,}."
        )


def _is_sequence(found: str, head: bytes, stream: BinaryIO) -> bool:
    """Whether a file says that it is an animation, in a way that libvips does not see."""
    if found == _PNG:
        return is_animated_png(stream)
    return found == _AVIF and head[8:12] == b"avis"


def _read_by_pillow(stream: BinaryIO) -> Frame:
    from PIL import Image

    try:
        with Image.open(stream) as image:
            return Frame(np.asarray(image.convert("RGB")))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ConversionError(f"The image cannot be read: {error}") from error
