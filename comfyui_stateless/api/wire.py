"""Values as the bytes of a JSON document."""

from __future__ import annotations

import json
import math
from typing import Any

from ..engine import OutputFile


def to_json(value: Any) -> bytes:
    """Return ``value`` as compact ASCII JSON.

    What JSON cannot say becomes what is nearest: null for numbers that are not finite, text for
    objects of other types.
    """
    try:
        return _dumps(value)
    except ValueError:
        return _dumps(_finite(value))


def describe(output: OutputFile) -> dict[str, Any]:
    """Return what replies say of an output beside its bytes."""
    described: dict[str, Any] = {
        "node_id": output.node_id,
        "filename": output.filename,
        "type": output.kind,
        "media_type": output.media_type,
        "size_bytes": output.size,
    }
    if output.width is not None and output.height is not None:
        described |= {"width": output.width, "height": output.height}
    return described


def _dumps(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, default=str, separators=(",", ":")).encode("ascii")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
