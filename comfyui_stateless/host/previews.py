"""Pictures of what a run is making, for those who want to watch it."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from PIL import Image, ImageOps

log = logging.getLogger("comfyui_stateless.host")

PICTURE = 2
"""ComfyUI's event of a picture: a tuple of a format, a Pillow image and a size in pixels."""

PICTURE_OF_NODE = 4
"""The same with what is known of it, sent to those who say that they support it."""

SUPPORT = {"feature_flags": {"supports_preview_metadata": True}}
"""What ComfyUI has to know of a client that it shall tell the nodes of pictures."""

MAX_SIDE_PX = 512
"""The longer side of pictures for which ComfyUI gives no size; ComfyUI's own default."""

JPEG_QUALITY = 85

_ENCODER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stateless-preview")


class Picture(NamedTuple):
    """A picture of a node's work, and the length that its longer side shall have, in pixels."""

    node_id: str
    image: Image.Image
    side: int


def picture(event: int, data: Any, node_id: str | None) -> Picture | None:
    """Return the picture in an event of ComfyUI's, None if nobody can say of which node it is.

    Args:
        node_id: The node that runs now.
    """
    if event == PICTURE_OF_NODE:
        node_id = data[1]["node_id"]
    _, image, side = picture_of(event, data)
    if node_id is None:
        return None
    return Picture(node_id, image, side or min(MAX_SIDE_PX, max(image.size)))


def picture_of(event: int, data: Any) -> tuple[str, Image.Image, int | None]:
    """Return format, image and longest side, None where it has none, of a picture in an event."""
    format_name, image, side = data[0] if event == PICTURE_OF_NODE else data
    return format_name, image, side


def to_jpeg(shown: Picture) -> bytes:
    """Return a picture as a JPEG."""
    image = ImageOps.contain(shown.image, (shown.side, shown.side), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _nowhere(node_id: str, jpeg: bytes) -> None:
    """Show a picture to nobody."""


class Previews:
    """Makes JPEGs of the pictures of one run, one at a time, off the thread that runs nodes.

    Of pictures that come while one is being made, only the latest is made next.

    Args:
        show: Takes a node and a JPEG; called on a thread of ours.
    """

    def __init__(self, show: Callable[[str, bytes], None]) -> None:
        self._show = show
        self._lock = threading.Lock()
        self._latest: Picture | None = None
        self._is_busy = False
        self._is_over = False

    def add(self, latest: Picture) -> None:
        """Take a picture; it must not change any more."""
        with self._lock:
            self._latest = latest
            if self._is_busy:
                return
            self._is_busy = True
        _ENCODER.submit(self._work)

    def close(self) -> None:
        """Show nothing from now on."""
        with self._lock:
            self._is_over = True
            self._show = _nowhere  # lets go of the run, which has this

    def _work(self) -> None:
        while (latest := self._next()) is not None:
            self._make(latest)

    def _make(self, latest: Picture) -> None:
        try:
            self._show(latest.node_id, to_jpeg(latest))
        except Exception:
            # Whatever is wrong with this one, the next may be shown.
            log.exception("A preview of node %s could not be shown", ascii(latest.node_id))

    def _next(self) -> Picture | None:
        with self._lock:
            latest, self._latest = (None if self._is_over else self._latest), None
            self._is_busy = latest is not None
            return latest
