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


class Sent:
    """Keeps what the node that runs has sent, until it says what it was.

    Args:
        senders: The nodes that may send outputs.
    """

    def __init__(self, senders: Collection[str]) -> None:
        self._senders = senders
        self._node_id: str | None = None
        self._images: list[Image.Image] = []

    def note(self, node_id: str | None, event: int, data: Any) -> None:
        """Note a picture in an event of ComfyUI's; one that is to be made smaller is a preview.

        Args:
            node_id: The node that runs now.
        """
        if node_id not in self._senders:
            return
        if node_id != self._node_id:
            self._node_id, self._images = node_id, []
        _, image, side = picture_of(event, data)
        if side is None and isinstance(image, Image.Image):
            self._images.append(image)

    def outputs(self, node_id: str, ui: Mapping[str, Any]) -> list[torch.Tensor]:
        """Return the images that a node which is done says it has sent, as ``SaveImage`` takes them."""
        count = sum(
            _is_sent(v) for values in ui.values() if isinstance(values, list) for v in values
        )
        if node_id != self._node_id:
            return []
        images, self._images = self._images, []
        return [_tensor(image) for image in images[len(images) - count :]] if count else []


def _is_sent(value: Any) -> bool:
    return (
        isinstance(value, dict) and dict.get(value, "source") == SOURCE and "filename" not in value
    )


def _tensor(image: Image.Image) -> torch.Tensor:
    has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    pixels = np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
    return torch.from_numpy(pixels.astype(np.float32) / 255.0)
