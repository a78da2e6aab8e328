"""Pictures that output nodes of packs send to the client in place of saving them.

Such a node sends each picture whole, as ComfyUI sends previews, and says in its ui output how many it
has sent: entries with a ``source`` of ``websocket`` and no file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from .previews import picture_of

SOURCE = "websocket"

MAX_AT_ONCE = 8
"""Nodes whose pictures are kept: asynchronous ones run at the same time, and many never say a word."""


class Sent:
    """Keeps what nodes have sent, until they say what it was.

    Args:
        senders: The nodes that may send outputs.
    """

    def __init__(self, senders: Collection[str]) -> None:
        self._senders = senders
        self._images: dict[str, list[Image.Image]] = {}

    def note(self, node_id: str | None, event: int, data: Any) -> None:
        """Note a picture in an event of ComfyUI's; one that is to be made smaller is a preview.

        Args:
            node_id: The node that sends it.
        """
        if node_id is None or node_id not in self._senders:
            return
        _, image, side = picture_of(event, data)
        if side is None and isinstance(image, Image.Image):
            self._images.setdefault(node_id, []).append(image)
        if len(self._images) > MAX_AT_ONCE:
            del self._images[next(iter(self._images))]

    def outputs(self, node_id: str, ui: Mapping[str, Any]) -> list[torch.Tensor]:
        """Return the images that a node which is done says it has sent, as ``SaveImage`` takes them."""
        count = sum(
            _is_sent(v) for values in ui.values() if isinstance(values, list) for v in values
        )
        images = self._images.pop(node_id, [])
        return [_tensor(image) for image in images[max(len(images) - count, 0) :]] if count else []


def _is_sent(value: Any) -> bool:
    return (
        isinstance(value, dict) and dict.get(value, "source") == SOURCE and "filename" not in value
    )


def _tensor(image: Image.Image) -> torch.Tensor:
    has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    pixels = np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
    return torch.from_numpy(pixels.astype(np.float32) / 255.0)
