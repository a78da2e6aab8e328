"""Whether the images that came back are the right ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .bursts import Burst
from .graphs import Pixels, Task, decoded
from .sides import WrongAnswer

EVERY = 6
"""One in so many large images is decoded; small ones all are."""

LIKENESS_DB = 28.0
"""Peak signal-to-noise ratio from which a lossy image counts as the picture that was asked for."""


def check_exact(tasks: Sequence[Task], burst: Burst, every: int = 1) -> None:
    """Raise WrongAnswer unless the images are PNGs of exactly the expected pixels."""
    for task, image in list(zip(tasks, burst.images, strict=True))[::every]:
        form, pixels = decoded(image)
        if form != "PNG" or not np.array_equal(pixels, task.expected):
            raise WrongAnswer(f"A {form} of {pixels.shape} does not have the expected pixels.")


def check_alike(tasks: Sequence[Task], burst: Burst, form: str) -> None:
    """Raise WrongAnswer unless the images have the format and look as expected."""
    for task, image in list(zip(tasks, burst.images, strict=True))[::EVERY]:
        found, pixels = decoded(image)
        if found != form or pixels.shape != task.expected.shape:
            raise WrongAnswer(f"A {found} of {pixels.shape} came back in place of a {form}.")
        likeness = peak_signal_to_noise(pixels, task.expected)
        if likeness < LIKENESS_DB:
            raise WrongAnswer(f"A {form} is another picture: {likeness:.1f} dB.")


def peak_signal_to_noise(one: Pixels, other: Pixels) -> float:
    """Return how alike two images are, in decibels: 10 log10(255² / mean squared error)."""
    error = np.square(one.astype(np.float64) - other).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))
