"""Content for the tests, the same in every run."""

from __future__ import annotations

import json
import random


def noise(size: int, seed: int = 1) -> bytes:
    """Return bytes that look like nothing known and compress to nothing."""
    return b"noise" + random.Random(seed).randbytes(size - 5)


def safetensors(size: int = 64, seed: int = 1) -> bytes:
    """Return a safetensors file with one tensor of ``size`` bytes."""
    tensor = {"weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    header = json.dumps(tensor).encode()
    return len(header).to_bytes(8, "little") + header + random.Random(seed).randbytes(size)
