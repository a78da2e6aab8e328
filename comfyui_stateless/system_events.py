"""What the operator's own webhook hears: ComfyUI's events of our jobs, and what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from .cache import FileEvent
from .uploads import Uploaded

Emit = Callable[[str, Mapping[str, Any], str], None]
"""Takes an event's name, its data, and the id of the job that it belongs to, on the loop."""


class SystemEvents:
    """Puts events into the form of the contract. Make it on the loop's thread."""

    def __init__(self) -> None:
        self.emit: Emit | None = None
        self._loop = asyncio.get_event_loop()

    def of_run(self, name: str, data: Mapping[str, Any]) -> None:
        """Tell of an event of a run, in ComfyUI's terms; may be called on any thread."""
        self._loop.call_soon_threadsafe(self._tell, name, data)

    def status(self, data: Mapping[str, Any]) -> None:
        """Tell how long ComfyUI's queue is."""
        self._tell("status", data)

    def downloaded(self, file: FileEvent) -> None:
        """Tell that a file has come into the cache."""
        self._store("file_downloaded", file.url, str(file.path), file.size, file.seconds)

    def deleted(self, file: FileEvent) -> None:
        """Tell that a file has left the cache."""
        self._store("file_deleted", file.url, str(file.path), file.size, file.seconds)

    def uploaded(self, file: Uploaded) -> None:
        """Tell that an output has been uploaded."""
        path = "" if file.path is None else str(file.path)
        self._store("file_uploaded", file.url, path, file.size, file.seconds)

    def _tell(self, name: str, data: Mapping[str, Any]) -> None:
        if self.emit is not None:
            job = str(data.get("prompt_id", ""))
            self.emit(name, {"type": name, "data": data, "sid": job}, job)

    def _store(self, name: str, url: str, path: str, size: int, seconds: float | None) -> None:
        if self.emit is not None:
            data = {"url": url, "local_path": path, "size": size}
            self.emit(name, data if seconds is None else {**data, "duration": seconds}, "")
