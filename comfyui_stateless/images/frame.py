"""The one value that images are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import ConversionError

Pixels: TypeAlias = NDArray[np.uint8]

CHANNELS = (1, 2, 3, 4)
"""Channels of an image: grey, grey and alpha, RGB, RGBA."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A still image, with the texts that ComfyUI's SaveImage would embed in it.

    Attributes:
        pixels: 8 bits per channel, [H, W] or [H, W, C] with C of ``CHANNELS``.
        text: Keyword and text, in order: ``("prompt", json)``, ``("workflow", json)``, …

    Raises:
        ConversionError: No image file holds pixels of this type or shape.
    """

    pixels: Pixels
    text: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        right = len(shape) in (2, 3) and self.channels in CHANNELS and 0 not in shape
        if not right or self.pixels.dtype != np.uint8:
            raise ConversionError(
                f"An image needs pixels of [height, width] or [height, width, 1 to 4 channels] "
                f"in 8 bits; these are {list(shape)} in {self.pixels.dtype}."
            )

    @property
    def channels(self) -> int:
        return self.pixels.shape[2] if self.pixels.ndim == 3 else 1

    def rows(self) -> Pixels:
        """Return the pixels as [H, W * C], contiguous; a copy only where they are not yet."""
        return np.ascontiguousarray(self.pixels).reshape(self.pixels.shape[0], -1)
