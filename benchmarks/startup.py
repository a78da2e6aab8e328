"""What the extension adds to ComfyUI's start."""

from __future__ import annotations

import json
from typing import Any

from tests.comfyui.server import Install

from .bench import Plan, started
from .rows import Row
from .sides import WrongAnswer
from .spread import Spread

MARK = "benchmark-import "
STARTS = 3


def measure(comfyui: Install, plan: Plan) -> list[Row]:
    """Start ComfyUI a few times, and read how long the extension's import took in each."""
    imports = [imported(comfyui) for _ in range(min(STARTS, plan.rounds))]
    early = sorted({name for found in imports for name in found["early"]})
    if early:
        raise WrongAnswer(f"Imported at the start, not when needed: {', '.join(early)}.")
    seconds = Spread.of(found["seconds"] * 1000 for found in imports)
    return [Row("import.time", "import of the extension at the start", "ms", seconds)]


def imported(comfyui: Install) -> dict[str, Any]:
    """Return what the pack's prestartup script wrote of one start."""
    with started(comfyui, {}) as server:
        for line in server.log.splitlines():
            if MARK in line:
                return dict(json.loads(line.partition(MARK)[2]))
    raise WrongAnswer("ComfyUI's start was not measured: the extension was not loaded.")
