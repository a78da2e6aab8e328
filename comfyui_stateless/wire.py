"""Values as the bytes of a JSON document, and bytes as base64 in it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

try:
    import pybase64 as base64
except Exception:  # noqa: BLE001 - missing or broken, Python's own does the same, and slower
    import base64  # type: ignore[no-redef]

b64encode: Callable[[bytes | memoryview], bytes] = base64.b64encode
"""Does not hold up other threads."""

b64decode: Callable[..., bytes] = base64.b64decode
"""Takes ``validate``, as Python's own does."""


_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=str, separators=(",", ":"))
"""Of our own: packs put functions of theirs in the place of ``json.dumps``."""

_ASCII = json.JSONEncoder(allow_nan=False, default=str, separators=(",", ":"))


_DECODER, _encoding = json.JSONDecoder(), json.detect_encoding


def to_json(value: Any) -> bytes:
    """Return ``value`` as compact JSON in UTF-8, with the bytes that JavaScript would write.

    What JSON cannot say becomes what is nearest: null for numbers that are not finite, text for
    objects of other types. Texts with half characters, which UTF-8 cannot say, are escaped.
    """
    try:
        return _dumps(value)
    except ValueError:
        return _dumps(_finite(value))


def from_json(body: bytes, constant: Callable[[str], Any]) -> Any:
    """Return what a document says.

    Args:
        constant: Gives the value of ``NaN``, ``Infinity`` and ``-Infinity``, which are not JSON.

    Raises:
        ValueError: It is no JSON, or not in UTF-8, UTF-16 or UTF-32.
        RecursionError: It is nested too deeply.
    """
    text = body.decode(json.detect_encoding(body), "surrogatepass")
    return json.JSONDecoder(parse_constant=constant).decode(text)


def own_json(document: bytes) -> Any:
    """Return what a document says that we wrote, whatever is in the place of ``json.loads`` now.

    Raises:
        ValueError: It is damaged.
    """
    return _DECODER.decode(document.decode(_encoding(document), "surrogatepass"))


def escaped(text: str) -> str:
    """Return a text in ASCII, with JSON's escapes for the rest."""
    return _ASCII.encode(text)[1:-1]


def _dumps(value: Any) -> bytes:
    try:
        return _COMPACT.encode(value).encode()
    except UnicodeEncodeError:
        return _ASCII.encode(value).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
