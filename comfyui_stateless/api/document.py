"""The API's description as it is served: made when somebody first asks for it."""

from __future__ import annotations

import asyncio
from typing import Any

from ..wire import to_json


class Document:
    """The OpenAPI document as JSON, built once.

    Args:
        needs_key: Whether the API wants an API key.
    """

    def __init__(self, *, needs_key: bool) -> None:
        self._needs_key = needs_key
        self._content: dict[str, Any] | None = None

    async def for_server(self, url: str) -> bytes:
        """Return the document.

        Args:
            url: Where the API's root is, seen from the document: ``.`` or ``..``.
        """
        if self._content is None:
            self._content = await asyncio.to_thread(self._made)
        return to_json({**self._content, "servers": [{"url": url}]})

    def _made(self) -> dict[str, Any]:
        # Imported here: its models take a tenth of the time that ComfyUI's start has for us.
        from .openapi import document

        return document(needs_key=self._needs_key)
