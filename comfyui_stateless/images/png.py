"""PNG from an array of pixels, many times as fast as a general encoder.

The format is that of https://www.w3.org/TR/png-3/. Three things make it fast: one filter for the
whole image, computed in numpy; ISA-L's deflate (zlib's where that is missing); no copies. Which
filter, and whether run lengths alone compress better, is found by trying it on a few rows.

An encode holds, beside the pixels, about 2 * ``BAND_BYTES`` and twice the size of the file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from PIL.PngImagePlugin import PngInfo

from ..errors import ConversionError
from .frame import Frame, Pixels

deflate: ModuleType = zlib
with suppress(Exception):  # missing or broken
    from isal import isal_zlib

    deflate = isal_zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER_BYTES = len(SIGNATURE) + 25
"""The signature and the IHDR chunk; text chunks may follow right behind."""

BAND_BYTES = 64 * 1024
"""Bytes of pixels that are filtered at a time: they stay in the processor's cache."""

SMALL_BYTES = 64 * 1024
"""Up to this many bytes of pixels, or of the file, a better compression is not worth its time."""

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_SAMPLES = 5
_SAMPLE_ROWS = 4
_SAMPLE_BYTES = 8 * 1024
_RUN_LENGTH_BELOW = 1 / 8
"""Of the pixels' size: files below are smooth pictures, which deflate may serve badly."""
_RUN_LENGTH_GAIN = 0.9
"""Of the other compressor's size: run lengths take three times as long."""


class Compressor(Protocol):
    """What zlib and ISA-L call a compression object."""

    def compress(self, data: Any, /) -> bytes: ...

    def flush(self) -> bytes: ...


Filter = Callable[[Pixels, Pixels, int, Pixels], None]
"""Fills the last argument from rows, the rows above them, and the bytes per pixel."""


def encode_png(frame: Frame) -> bytes:
    """Encode a frame as PNG, with its texts in the chunks that SaveImage would write.

    Raises:
        ConversionError: A keyword of the texts is not Latin-1, as PNG wants it.
    """
    rows = frame.rows()
    height, width = frame.pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[frame.channels], 0, 0, 0)
    parts = [SIGNATURE, *_chunk(b"IHDR", header), text_chunks(frame.text)]
    for data in filter(None, _compressed(rows, frame.channels)):
        parts += _chunk(b"IDAT", data)
    parts += _chunk(b"IEND", b"")
    return b"".join(parts)


def text_chunks(text: Iterable[tuple[str, str]]) -> bytes:
    """Return PNG chunks of keywords and texts, by Pillow's rules: Latin-1, or else UTF-8 (iTXt).

    Raises:
        ConversionError: A keyword is not Latin-1.
    """
    info = PngInfo()
    try:
        for keyword, value in text:
            info.add_text(keyword, value)
    except UnicodeEncodeError as error:
        raise ConversionError(
            f"PNG cannot embed a text under the keyword {error.object!a}: it is not Latin-1."
        ) from error
    return b"".join(part for chunk in info.chunks for part in _chunk(chunk[0], chunk[1]))


def _chunk(name: bytes, data: bytes) -> tuple[bytes, bytes, bytes]:
    checksum = deflate.crc32(data, zlib.crc32(name))
    return struct.pack(">I", len(data)) + name, data, struct.pack(">I", checksum)


def _compressed(rows: Pixels, step: int) -> Iterator[bytes]:
    """Yield the zlib stream of ``rows``, each pixel of ``step`` bytes, band by band."""
    if rows.nbytes <= SMALL_BYTES:
        yield _small(rows)
        return
    number, compressor = _choose(rows, step)
    height, width = rows.shape
    band = max(1, BAND_BYTES // width)
    filtered = np.empty((band, 1 + width), np.uint8)
    filtered[:, 0] = number
    apply = FILTERS[number]
    apply(rows[:1], np.zeros_like(rows[:1]), step, filtered[:1, 1:])
    yield compressor.compress(filtered[:1])
    for start in range(1, height, band):
        end = min(start + band, height)
        used = filtered[: end - start]
        apply(rows[start:end], rows[start - 1 : end - 1], step, used[:, 1:])
        yield compressor.compress(used)
    yield compressor.flush()


def _small(rows: Pixels) -> bytes:
    """Return the zlib stream of a small image: in a third of the time, and a twentieth larger."""
    filtered = np.empty((rows.shape[0], 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return deflate.compress(filtered, 1)  # type: ignore[no-any-return]  # of either module


def _choose(rows: Pixels, step: int) -> tuple[int, Compressor]:
    """Return the number of the filter, and the compressor, that do best on samples of the rows."""
    samples = _samples(rows)
    trials = {number: _filtered(samples, step, number) for number in FILTERS}
    sizes = {number: len(deflate.compress(data, 1)) for number, data in trials.items()}
    best = min(sizes, key=sizes.__getitem__)
    file_size = rows.nbytes * sizes[best] / max(1, trials[best].nbytes)
    if SMALL_BYTES < file_size < rows.nbytes * _RUN_LENGTH_BELOW:
        run_lengths = _run_lengths()
        size = len(run_lengths.compress(trials[best])) + len(run_lengths.flush())
        if size < sizes[best] * _RUN_LENGTH_GAIN:
            return best, _run_lengths()
    return best, deflate.compressobj(1)


def _run_lengths() -> Compressor:
    return zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)


def _samples(rows: Pixels) -> list[tuple[Pixels, Pixels]]:
    """Return strips of rows, each with the rows above, from places all over the image."""
    height, width = rows.shape
    count = max(_SAMPLE_ROWS, _SAMPLE_BYTES // width)
    starts = [max(1, (2 * i + 1) * height // (2 * _SAMPLES)) for i in range(_SAMPLES)]
    return [(rows[s : s + count], rows[s - 1 : s - 1 + count][: height - s]) for s in starts]


def _filtered(samples: list[tuple[Pixels, Pixels]], step: int, number: int) -> Pixels:
    count = sum(len(rows) for rows, _ in samples)
    filtered = np.full((count, 1 + samples[0][0].shape[1]), number, np.uint8)
    end = 0
    for rows, above in samples:
        start, end = end, end + len(rows)
        FILTERS[number](rows, above, step, filtered[start:end, 1:])
    return filtered


def _none(rows: Pixels, above: Pixels, step: int, out: Pixels) -> None:
    out[:] = rows


def _sub(rows: Pixels, above: Pixels, step: int, out: Pixels) -> None:
    out[:, :step] = rows[:, :step]
    np.subtract(rows[:, step:], rows[:, :-step], out=out[:, step:])


def _up(rows: Pixels, above: Pixels, step: int, out: Pixels) -> None:
    np.subtract(rows, above, out=out)


def _average(rows: Pixels, above: Pixels, step: int, out: Pixels) -> None:
    """Subtract floor((left + above) / 2), which is (a & b) + ((a ^ b) >> 1) without overflow."""
    np.subtract(rows[:, :step], above[:, :step] >> 1, out=out[:, :step])
    left, up = rows[:, :-step], above[:, step:]
    mean = left ^ up
    mean >>= 1
    mean += left & up
    np.subtract(rows[:, step:], mean, out=out[:, step:])


_UP = 2
FILTERS: dict[int, Filter] = {0: _none, 1: _sub, _UP: _up, 3: _average}
"""Filters by their number in the PNG specification; Paeth's costs too much here."""
