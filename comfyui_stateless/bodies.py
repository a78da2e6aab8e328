"""Bodies of any size in bounded memory: lists of parts whose lengths are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from .engine import OutputFile, PromptResult
from .outputs import described
from .wire import b64encode, to_json

CHUNK_BYTES = 768 * 1024
"""Bytes of an output that are read at a time: a multiple of three, so that base64 can be cut."""


class Part(Protocol):
    """A part of a body.

    Attributes:
        size: Bytes.
        blocks: Whether reading it waits for a disk.
    """

    @property
    def size(self) -> int: ...

    @property
    def blocks(self) -> bool: ...

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Yield exactly ``size`` bytes."""


Body = Sequence[Part]


class Text(NamedTuple):
    """Bytes that are there already."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def blocks(self) -> bool:
        return False

    def chunks(self) -> Iterator[bytes | memoryview]:
        yield self.data


class Raw(NamedTuple):
    """An output's bytes as they are."""

    output: OutputFile

    @property
    def size(self) -> int:
        return self.output.size

    @property
    def blocks(self) -> bool:
        return not isinstance(self.output.body, bytes)

    def chunks(self) -> Iterator[bytes | memoryview]:
        return output_chunks(self.output)


class Base64(NamedTuple):
    """An output's bytes in base64."""

    output: OutputFile

    @property
    def size(self) -> int:
        return 4 * -(-self.output.size // 3)

    @property
    def blocks(self) -> bool:
        return not isinstance(self.output.body, bytes)

    def chunks(self) -> Iterator[bytes | memoryview]:
        return map(b64encode, output_chunks(self.output))


def output_chunks(output: OutputFile) -> Iterator[bytes | memoryview]:
    """Yield an output in chunks of ``CHUNK_BYTES``, the last one shorter.

    Raises:
        OSError: Its file cannot be read, or is shorter than the output's size.
    """
    if isinstance(output.body, bytes):
        view = memoryview(output.body)
        for start in range(0, output.size, CHUNK_BYTES):
            yield view[start : start + CHUNK_BYTES]
        return
    left = output.size
    with output.body.open("rb") as file:
        while left:
            chunk = file.read(min(CHUNK_BYTES, left))
            if not chunk:
                raise OSError(f"{output.body} ended {left} bytes early")
            left -= len(chunk)
            yield chunk


def json_body(result: PromptResult, first: Mapping[str, Any] | None = None) -> Body:
    """Return the contract's JSON: outputs in base64, or the URLs that they were uploaded to.

    Args:
        first: Fields that stand in front of the others.
    """
    if result.urls is not None:
        return [Text(json_elsewhere(result, result.urls, first))]
    before, after = _json_halves(result, first)
    parts: list[Part] = [Text(before + b'"images":[')]
    for index, output in enumerate(result.outputs):
        parts += [Text(b',"' if index else b'"'), Base64(output), Text(b'"')]
    return [*parts, Text(b"]," + after)]


def json_elsewhere(
    result: PromptResult, places: Sequence[str], first: Mapping[str, Any] | None = None
) -> bytes:
    """Return the contract's JSON with ``places`` where outputs would be."""
    before, after = _json_halves(result, first)
    return before + b'"images":' + to_json(list(places)) + b"," + after


def _json_halves(result: PromptResult, first: Mapping[str, Any] | None) -> tuple[bytes, bytes]:
    """The JSON before and after ``images``, which is the only large field."""
    before: dict[str, Any] = {
        **(first or {}),
        "id": result.id,
        "prompt": result.prompt,
        **result.echo,
    }
    after = {
        "filenames": [output.filename for output in result.outputs],
        "outputs": [described(output) for output in result.outputs],
        "texts": [{"node_id": text.node_id, "text": text.text} for text in result.texts],
        "stats": result.stats,
    }
    return to_json(before)[:-1] + b",", to_json(after)[1:]
