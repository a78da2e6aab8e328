"""What is asked for: graphs in ComfyUI's API format, each with the pixels that have to come back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Graph = dict[str, Any]
Pixels = npt.NDArray[np.uint8]

SMALL = 64
SIDE = 1024
PICTURES = 12
FALL = 1.5


@dataclass(frozen=True, eq=False)
class Task:
    """One request: a graph that saves one image, and that image."""

    graph: Graph
    expected: Pixels


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """Return a node of a graph."""
    return {"class_type": class_type, "inputs": inputs}


def smallest() -> Iterator[Task]:
    """Yield the smallest graph, each time in another colour, so that no side has it cached."""
    for number in itertools.count(1):
        # Steps by a prime walk through all colours before one comes again.
        colour = number * 7_368_787 % 2**24
        yield Task(coloured(colour), coloured_pixels(colour))


def coloured(colour: int, **between: dict[str, Any]) -> Graph:
    """Return a graph of ``EmptyImage`` and ``SaveImage``, with at most one node between them."""
    last = next(iter(between), "1")
    return {
        "1": node("EmptyImage", width=SMALL, height=SMALL, batch_size=1, color=colour),
        **between,
        "9": node("SaveImage", images=[last, 0], filename_prefix="benchmark"),
    }


def coloured_pixels(colour: int) -> Pixels:
    """Return what ComfyUI makes of a colour: float32 from 0 to 1, and back without rounding."""
    scaled = np.clip(np.float32(255) * pixel(colour), 0, 255).astype(np.uint8)
    return np.broadcast_to(scaled, (SMALL, SMALL, 3))


def pixel(colour: int) -> npt.NDArray[np.float32]:
    """Return a pixel of ComfyUI's ``EmptyImage``."""
    parts = np.array([colour >> 16 & 0xFF, colour >> 8 & 0xFF, colour & 0xFF])
    return (parts / 255).astype(np.float32)


def loaded(name: str) -> Graph:
    """Return a graph that loads a picture from the input folder and saves it."""
    return {
        "1": node("LoadImage", image=name),
        "9": node("SaveImage", images=["1", 0], filename_prefix="benchmark"),
    }


def photo(seed: int) -> Image.Image:
    """Return a photo-like picture of 1024 by 1024 pixels.

    Its amplitudes fall with a power of the spatial frequency, as those of natural images do; the
    power is such that plain ComfyUI's PNG of it has about 1.5 MiB, as of generated pictures of
    this size. Its channels are correlated, and it has the noise of a sensor.
    """
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    frequency[0, 0] = np.inf
    phase = np.exp(2j * np.pi * random.random((4, *frequency.shape)))
    brightness, *tints = np.fft.irfft2(phase / frequency**FALL, (SIDE, SIDE))
    channels = [brightness / brightness.std() + 0.3 * tint / tint.std() for tint in tints]
    image = 128 + 50 * np.stack(channels, axis=-1)
    image += random.normal(0, seed % 3, image.shape)
    return Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))


def write_photos(folder: Path) -> list[str]:
    """Write the pictures as JPEG of high quality, as cameras do; return their names."""
    names = [f"photo-{seed}.jpg" for seed in range(PICTURES)]
    for seed, name in enumerate(names):
        photo(seed).save(folder / name, quality=95, subsampling=0)
    return names


def decoded(content: bytes) -> tuple[str, Pixels]:
    """Return format and RGB pixels of an image file."""
    with Image.open(BytesIO(content)) as image:
        return str(image.format), np.asarray(image.convert("RGB"))
