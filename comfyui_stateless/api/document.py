"""The API's description as it is served: made when it is asked for and something has changed."""

from __future__ import annotations

import asyncio
from typing import Any

from ..wire import to_json
from ..workflows.collection import Edition, Workflows


class Document:
    """The OpenAPI document as JSON, built once for each edition of the workflow endpoints.

    Args:
        workflows: The endpoints that it describes too.
        needs_key: Whether the API wants an API key.
        tables: Whether the descriptions of endpoints end with a table of their inputs.
    """

    def __init__(self, workflows: Workflows, *, needs_key: bool, tables: bool = True) -> None:
        self._workflows = workflows
        self._needs_key = needs_key
        self._tables = tables
        self._edition = -1
        self._content: dict[str, Any] = {}

    async def for_server(self, url: str) -> bytes:
        """Return the document.

        Args:
            url: Where the API's root is, seen from the document: ``.`` or ``..``.
        """
        edition = await self._workflows.edition(lists=True)
        if edition.number != self._edition:
            self._content = await asyncio.to_thread(self._made, edition)
            self._edition = edition.number
        return to_json({**self._content, "servers": [{"url": url}]})

    def _made(self, edition: Edition) -> dict[str, Any]:
        # Imported here: its models take a tenth of the time that ComfyUI's start has for us.
        from .openapi import document

        endpoints = {
            path: entry.endpoint.description
            for path, entry in edition.entries.items()
            if entry.endpoint is not None
        }
        return document(endpoints, needs_key=self._needs_key, tables=self._tables)
