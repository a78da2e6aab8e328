"""The files of a new endpoint: the inputs of a graph as YAML, or all of it as Python."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .base import JsonObject
from .definitions import defined, spec_of
from .guessing import MEDIA, Graph, Offer

_HEAD = """\
# The inputs of {graph}, made by `comfyui-stateless workflow new`. Change what you like.
#
# Each input has a name, and says the node and the input of it that get the value (`to:` is a list of
# several). What values it takes is ComfyUI's own definition; narrow it with `minimum`, `maximum`,
# `multiple_of`, `enum` or `max_length`. What a caller leaves out stays as it is in the graph, or is
# `default`; `required: true` has no default. `type: seed` draws a number. Whatever is not listed
# here, no caller can change.
"""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})

_TYPES = {
    "sampler_name": "Sampler",
    "scheduler": "Scheduler",
    "ckpt_name": "Checkpoint",
    "lora_name": 'Model["loras"]',
    "unet_name": 'Model["diffusion_models"]',
    "vae_name": 'Model["vae"]',
    "clip_name": 'Model["text_encoders"]',
    "control_net_name": 'Model["controlnet"]',
}
_FLOATS = frozenset(
    {"cfg", "guidance", "denoise", "strength", "strength_model", "strength_clip", "scale_by",
     "megapixels", "fps", "frame_rate", "shift"}
)  # fmt: skip

Definitions = Mapping[str, JsonObject]


def yaml_text(graph_name: str, offers: Sequence[Offer], summary: str) -> str:
    """Return the YAML file that lies beside a graph."""
    lines = [_HEAD.format(graph=graph_name), f"summary: {json.dumps(summary)}"]
    lines.append("inputs:" if offers else "inputs: {}")
    for offer in offers:
        lines += _yaml_input(offer)
    return "\n".join(lines) + "\n"


def _yaml_input(offer: Offer) -> Iterator[str]:
    yield f"  {_scalar(offer.name)}:"
    if len(offer.widgets) == 1:
        yield f"    node: {json.dumps(offer.first.node)}"
        yield f"    input: {_scalar(offer.first.input)}"
    else:
        yield "    to:"
        for widget in offer.widgets:
            yield f"      - {{node: {json.dumps(widget.node)}, input: {_scalar(widget.input)}}}"
    usual = offer.usual
    if usual and usual.kind:
        yield f"    type: {usual.kind}"
    if usual and usual.required:
        yield "    required: true"
    elif not (usual and usual.kind == "seed"):
        yield f"    # in the graph: {_shown(offer.first.value)}"
    if usual:
        yield f"    description: {json.dumps(usual.description, ensure_ascii=False)}"


def python_text(
    graph: Graph, offers: Sequence[Offer], summary: str, definitions: Definitions
) -> str:
    """Return a Python file that makes the graph.

    Args:
        definitions: ComfyUI's, for types and limits; may be empty.
    """
    types = {offer.name: _python_type(offer, definitions) for offer in offers}
    names = sorted(
        {name.partition("[")[0] for name in types.values()} - {"str", "int", "float", "bool"}
    )
    helpers = f"\nfrom comfyui_stateless.workflows import {', '.join(names)}\n" if names else ""
    fields = [_python_field(offer, types[offer.name], definitions) for offer in offers]
    body = "\n".join(f"    {field}" for field in fields) or "    pass"
    places = {widget.place: offer.name for offer in offers for widget in offer.widgets}
    nodes = "".join(_python_node(node_id, node, places) for node_id, node in graph.items())
    return (
        "from typing import Any\n\nfrom pydantic import BaseModel, Field\n"
        f"{helpers}\nsummary = {_literal(summary)}\n\n\n"
        f"class RequestSchema(BaseModel):\n{body}\n\n\n"
        f"def generate_workflow(input: RequestSchema) -> dict[str, Any]:\n    return {{\n{nodes}    }}\n"
    )


def _python_type(offer: Offer, definitions: Definitions) -> str:
    widget, usual = offer.first, offer.usual
    if usual and usual.kind == "seed":
        return "Seed"
    if usual in MEDIA.values():
        assert usual is not None
        return usual.name.capitalize()
    if widget.class_type.startswith("UpscaleModel") and widget.input == "model_name":
        return 'Model["upscale_models"]'
    if widget.input in _TYPES:
        return _TYPES[widget.input]
    known = _known(offer, definitions)
    kind = known.kind if known else None
    if kind == "number" or (widget.input in _FLOATS and not isinstance(widget.value, str)):
        return "float"
    return type(widget.value).__name__


def _known(offer: Offer, definitions: Definitions) -> Any:
    spec = spec_of(definitions.get(offer.first.class_type), offer.first.input)
    return defined(spec, None, offer.first.value) if spec is not None else None


def _python_field(offer: Offer, kind: str, definitions: Definitions) -> str:
    usual, known = offer.usual, _known(offer, definitions)
    settings = [] if usual and usual.required else [_literal(offer.first.value)]
    if kind in ("int", "float") and known is not None:
        limits = {"ge": known.minimum, "le": known.maximum}
        settings += [f"{name}={limit}" for name, limit in limits.items() if limit is not None]
    if usual:
        settings.append(f"description={_literal(usual.description)}")
    if kind == "Seed":
        return f"{offer.name}: Seed"
    return (
        f"{offer.name}: {kind} = Field({', '.join(settings)})"
        if settings
        else f"{offer.name}: {kind}"
    )


def _python_node(node_id: str, node: JsonObject, places: Mapping[tuple[str, str], str]) -> str:
    lines = [f"        {_literal(node_id)}: {{"]
    lines.append(f'            "class_type": {_literal(node["class_type"])},')
    lines.append('            "inputs": {')
    for name, value in node["inputs"].items():
        offered = places.get((node_id, name))
        said = f"input.{offered}" if offered else _literal(value)
        lines.append(f"                {_literal(name)}: {said},")
    lines.append("            },")
    if "_meta" in node:
        lines.append(f'            "_meta": {_literal(node["_meta"])},')
    return "\n".join([*lines, "        },\n"])


def _literal(value: Any) -> str:
    """Return a JSON value as Python."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return repr(value)


def _scalar(text: str) -> str:
    is_plain = _PLAIN.match(text) and text.lower() not in _WORDS
    return text if is_plain else json.dumps(text)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"
