"""What goes over the pipes of Node.js: a line of JSON, and behind it long texts as they are.

Base64 of an image in JSON would be escaped, searched and copied on the event loop, there and back.
"""

from __future__ import annotations

import json
from asyncio import StreamReader, StreamWriter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from ..wire import to_json

LONG = 32 * 1024
"""Characters from which a text stands behind the line."""

SLICE = 256 * 1024
LONGEST_LINE = 2**30


@dataclass(frozen=True, slots=True)
class Texts:
    """The long texts of a request.

    Attributes:
        mark: In their place stands an object with this one name, and their number.
    """

    mark: str = field(default_factory=lambda: uuid4().hex)
    found: list[str] = field(default_factory=list)

    def taken_out(self, value: Any) -> Any:
        """Return a value with marks in place of its long texts, which are noted."""
        if isinstance(value, str) and len(value) >= LONG:
            self.found.append(value)
            return {self.mark: len(self.found) - 1}
        if isinstance(value, Mapping):
            return {name: self.taken_out(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.taken_out(item) for item in value]
        return value

    def put_back(self, value: Any, more: Sequence[str]) -> Any:
        """Return a value with the texts in place of marks; ``more`` count on from our own."""
        if isinstance(value, dict):
            if value.keys() == {self.mark}:
                return [*self.found, *more][value[self.mark]]
            return {name: self.put_back(item, more) for name, item in value.items()}
        if isinstance(value, list):
            return [self.put_back(item, more) for item in value]
        return value


async def write_frame(writer: StreamWriter, line: Mapping[str, Any], texts: Texts) -> None:
    """Write one frame; nobody else may write meanwhile."""
    whole = [text if text.isascii() else text.encode(errors="replace") for text in texts.found]
    head = {**line, "mark": texts.mark, "texts": [len(text) for text in whole]}
    writer.write(to_json(head) + b"\n")
    await writer.drain()
    for text in whole:
        for start in range(0, len(text), SLICE):
            part = text[start : start + SLICE]
            writer.write(part.encode() if isinstance(part, str) else part)
            await writer.drain()


async def read_frame(reader: StreamReader) -> tuple[dict[str, Any], list[str]] | None:
    """Return the next line with its texts, None at the end."""
    line = await reader.readline()
    if not line.endswith(b"\n"):
        return None
    reply: dict[str, Any] = json.loads(line)
    lengths = reply.pop("texts", ())
    return reply, [(await reader.readexactly(length)).decode() for length in lengths]
