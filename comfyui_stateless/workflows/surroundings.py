"""What workflow files are told of ComfyUI: gathered from the engine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..engine import Engine, Graph, ModelInput
from ..inputs.wanted import is_address
from .base import JsonObject, Surroundings
from .definitions import spec_of

SAMPLER = "KSampler"
"""The class whose lists of samplers and schedulers count."""


async def look_around(engine: Engine, class_types: Iterable[str], warmup: Graph) -> Surroundings:
    """Return what ComfyUI has now.

    Args:
        class_types: The classes whose definitions are wanted.
        warmup: The graph of the warm-up, empty if there is none.
    """
    wanted = sorted({*class_types, SAMPLER})
    await engine.learn_inputs()
    definitions = await engine.definitions(wanted)
    sampler = definitions.get(SAMPLER)
    return Surroundings(
        samplers=_names(sampler, "sampler_name"),
        schedulers=_names(sampler, "scheduler"),
        models={folder: tuple(names) for folder, names in (await engine.models()).items()},
        warmup_checkpoint=_checkpoint(engine, warmup),
        definitions=definitions,
        files={name: engine.file_inputs(name) for name in wanted},
    )


def _names(definition: JsonObject | None, name: str) -> tuple[str, ...]:
    spec = spec_of(definition, name)
    if not isinstance(spec, (list, tuple)) or not spec:
        return ()
    options = spec[0]
    if options == "COMBO" and len(spec) > 1:
        options = spec[1].get("options")
    return tuple(map(str, options)) if isinstance(options, (list, tuple)) else ()


def _checkpoint(engine: Engine, warmup: Graph) -> str | None:
    """Return the first checkpoint that a graph names."""
    for node in warmup.values():
        for name, slot in engine.file_inputs(node["class_type"]).items():
            value: Any = node["inputs"].get(name)
            is_checkpoint = isinstance(slot, ModelInput) and "checkpoints" in slot.folders
            if is_checkpoint and isinstance(value, str) and not is_address(value):
                return value
    return None
