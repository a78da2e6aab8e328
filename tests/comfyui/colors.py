"""Pictures of one color, so that whose a picture is can be told, and the events of a job."""

from __future__ import annotations

import io
import json
from typing import Any

from PIL import Image

from tests.comfyui.graphs import node, waiting
from tests.comfyui.server import Reply


def painted(color: int) -> dict[str, Any]:
    return {
        "1": node("EmptyImage", width=8, height=8, batch_size=1, color=color),
        "9": node("SaveImage", images=["1", 0], filename_prefix="painted"),
    }


def slow(color: int, seconds: float, nonce: str) -> dict[str, Any]:
    graph = waiting(seconds, nonce)
    graph["1"]["inputs"]["color"] = color
    return graph


def rounded(color: int) -> tuple[int, ...]:
    return tuple((color >> shift & 255) // 4 for shift in (16, 8, 0))


def color_of(png: bytes) -> tuple[int, ...]:
    with Image.open(io.BytesIO(png)) as image:
        pixel = image.convert("RGB").getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return tuple((int(value) + 1) // 4 for value in pixel)


def frames_of(reply: Reply) -> list[tuple[str, str, Any]]:
    """Return the events of a stream that has ended: the id, the name and the data of each."""
    assert reply.status == 200, reply.body
    frames = []
    for block in reply.body.decode().split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            said = dict(line.split(": ", 1) for line in lines)
            frames.append((said["id"], said["event"], json.loads(said["data"])))
    assert len({each for each, _, _ in frames}) == len(frames)
    return frames
