"""Where the fuzzer keeps what it has found."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[3] / ".comfyui" / "fuzz"
