"""Graphs for the tests, in ComfyUI's API format."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Graph = dict[str, Any]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def pattern(seed: int = 0, **inputs: Any) -> dict[str, Any]:
    given = {"seed": seed, "width": 64, "height": 48, "batch": 1, "channels": 3, **inputs}
    return node("TestPattern", **given)


def saved(seed: int = 0, prefix: str = "picture", **inputs: Any) -> Graph:
    """Noise, saved."""
    return {
        "1": pattern(seed, **inputs),
        "9": node("SaveImage", images=["1", 0], filename_prefix=prefix),
    }


def waiting(seconds: float, nonce: str, stubborn: bool = False) -> Graph:
    """A picture that takes its time."""
    return {
        "1": node("EmptyImage", width=8, height=8, batch_size=1, color=255),
        "2": node("TestWaits", image=["1", 0], seconds=seconds, stubborn=stubborn, nonce=nonce),
        "9": node("SaveImage", images=["2", 0], filename_prefix="waited"),
    }


def counted(path: Path, line: str, color: int = 0, seconds: float = 0.0) -> Graph:
    """A picture of one color; each run of it adds a line to a file."""
    return {
        "1": node("EmptyImage", width=8, height=8, batch_size=1, color=color),
        "2": node("TestCounts", image=["1", 0], path=str(path), line=line, seconds=seconds),
        "9": node("SaveImage", images=["2", 0], filename_prefix="counted"),
    }


def failing(kind: str, message: str = "it broke") -> Graph:
    """A node that raises, before a node that saves."""
    return {
        "1": node("EmptyImage", width=8, height=8, batch_size=1, color=255),
        "2": node("TestRaises", image=["1", 0], kind=kind, message=message),
        "9": node("SaveImage", images=["2", 0], filename_prefix="never"),
    }


def pixels(png: bytes) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        return np.array(image)


def text_chunks(png: bytes) -> dict[str, str]:
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        return dict(image.text)
