"""Small pictures of what jobs made. They are made on a thread of their own, and few at a time."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from ..engine import OutputFile

log = logging.getLogger("comfyui_stateless.board")

SIDE = 128
QUALITY = 75

MAX_PIXELS = 64 * 1024 * 1024
MAX_FILE_BYTES = 64 * 1024 * 1024
"""Pictures that are larger get no thumbnail."""

MAX_WAITING = 4
"""Pictures that wait for the thread; the jobs of those that come then get none."""

UNWATCHED_S = 1.0
"""Seconds between two thumbnails while nobody watches: jobs may end hundreds of times a second."""


class Thumbnails:
    """Makes and keeps a JPEG for each job whose first output is a picture.

    Args:
        is_watched: Whether anybody watches the jobs.
    """

    def __init__(self, is_watched: Callable[[], bool]) -> None:
        self._is_watched = is_watched
        self._thread = ThreadPoolExecutor(1, "stateless-thumbnails")
        self._lock = threading.Lock()
        self._kept: dict[str, bytes] = {}
        self._wanted: set[str] = set()
        self._waiting = 0
        self._last = float("-inf")

    def get(self, run_id: str) -> bytes | None:
        """Return the JPEG of a job, None if there is none."""
        return self._kept.get(run_id)

    def take(self, run_id: str, outputs: Iterable[OutputFile]) -> None:
        """Begin to make the thumbnail of a job; its files may go as soon as this returns."""
        first = next(iter(outputs), None)
        if first is None or not _is_small_picture(first) or not self._has_time():
            return
        try:
            source = _opened(first.body)
        except OSError:
            return
        with self._lock:
            self._waiting += 1
            self._wanted.add(run_id)
        self._thread.submit(self._make, run_id, source)

    def forget(self, run_id: str) -> None:
        """Keep the thumbnail of a job no longer."""
        with self._lock:
            self._wanted.discard(run_id)
            self._kept.pop(run_id, None)

    def close(self) -> None:
        """End the thread, when it has made what was begun."""
        self._thread.shutdown()

    def _has_time(self) -> bool:
        now = time.monotonic()
        if self._waiting >= MAX_WAITING:
            return False
        if not self._is_watched() and now - self._last < UNWATCHED_S:
            return False
        self._last = now
        return True

    def _make(self, run_id: str, source: BinaryIO) -> None:
        try:
            with closing(source):
                jpeg = thumbnail(source)
        except Exception as error:  # noqa: BLE001 - whatever a decoder raises, the job is done
            log.debug("No thumbnail of run %s: %s", run_id, error)
            jpeg = b""
        with self._lock:
            self._waiting -= 1
            if jpeg and run_id in self._wanted:
                self._kept[run_id] = jpeg


def thumbnail(source: BinaryIO) -> bytes:
    """Return a picture as a JPEG whose longer side has at most ``SIDE`` pixels.

    Raises:
        Exception: It cannot be decoded.
    """
    from PIL import Image  # of no use to ComfyUI's start

    with Image.open(source) as image:
        image.draft("RGB", (SIDE, SIDE))
        shown: Image.Image = image
        if image.mode.startswith("I"):  # 16 bits of gray, which cannot be made smaller as they are
            shown = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
        shown.thumbnail((SIDE, SIDE), reducing_gap=2.0)
        small = shown.convert("RGBA")
    flat = Image.new("RGB", small.size, "white")
    flat.paste(small, mask=small)
    file = io.BytesIO()
    flat.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _is_small_picture(output: OutputFile) -> bool:
    pixels = (output.width or 0) * (output.height or 0)
    is_small = 0 < pixels <= MAX_PIXELS and output.size <= MAX_FILE_BYTES
    return is_small and output.media_type.startswith("image/")


def _opened(body: bytes | Path) -> BinaryIO:
    return io.BytesIO(body) if isinstance(body, bytes) else body.open("rb")
