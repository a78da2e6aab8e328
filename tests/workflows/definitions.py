"""ComfyUI's definitions of some classes, and graphs of them, for tests without a ComfyUI."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from comfyui_stateless.engine import FileForm, FileInput, MediaInput, ModelInput, NodeClass
from comfyui_stateless.workflows.base import Surroundings
from tests.fakes import CLASSES

SAMPLERS = ["euler", "dpmpp_2m"]

DEFINITIONS: dict[str, dict[str, Any]] = {
    "KSampler": {
        "input": {
            "required": {
                "model": ["MODEL"],
                "seed": ["INT", {"default": 0, "min": 0, "max": 2**64 - 1}],
                "steps": ["INT", {"default": 20, "min": 1, "max": 10000}],
                "cfg": ["FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0, "step": 0.1}],
                "sampler_name": [SAMPLERS, {"tooltip": "How it samples."}],
                "scheduler": ["COMBO", {"options": ["normal", "karras"]}],
            }
        },
        "output_node": False,
    },
    "EmptyImage": {
        "input": {
            "required": {
                "width": ["INT", {"default": 512, "min": 16, "max": 16384, "step": 8}],
                "height": ["INT", {"default": 512, "min": 1, "max": 16384, "step": 1}],
                "tiled": ["BOOLEAN", {"default": False}],
            },
            "optional": {"note": ["STRING", {"multiline": True}]},
        },
        "output_node": False,
    },
    "Loader": {
        "input": {
            "required": {
                "lora_name": [["a.safetensors", "b.safetensors"]],
                "image": [["there.png"], {"image_upload": True}],
            }
        },
        "output_node": False,
    },
    "CLIPTextEncode": {
        "input": {"required": {"text": ["STRING", {"multiline": True}], "clip": ["CLIP"]}},
        "output_node": False,
    },
    "SaveImage": {
        "input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}},
        "output_node": True,
    },
}

FILES: dict[str, dict[str, FileInput]] = {
    "Loader": {
        "lora_name": ModelInput(("loras",)),
        "image": MediaInput(FileForm.NAME, is_marked=True),
    }
}

PLAIN = NodeClass(is_output=False, has_prefix=False, default_prefix=None)

NODE_CLASSES = {**dict.fromkeys(DEFINITIONS, PLAIN), **CLASSES}

MODELS = {"loras": ["a.safetensors", "b.safetensors"], "checkpoints": ["sd.safetensors"]}

SURROUNDINGS = Surroundings(
    samplers=SAMPLERS,
    schedulers=["normal", "karras"],
    models=MODELS,
    warmup_checkpoint="sd.safetensors",
    definitions=DEFINITIONS,
    files=FILES,
)


def surroundings(**changes: Any) -> Surroundings:
    return replace(SURROUNDINGS, **changes)


def node(class_type: str, title: str = "", **inputs: Any) -> dict[str, Any]:
    return {"inputs": inputs, "class_type": class_type, "_meta": {"title": title or class_type}}


def graph(**titles: str) -> dict[str, Any]:
    """Return a graph with titles by node id, each of them ``n`` and a number."""
    nodes = {
        "1": node("EmptyImage", width=64, height=32, tiled=False),
        "2": node("KSampler", model=["4", 0], seed=7, steps=20, cfg=8.0, sampler_name="euler",
                  scheduler="normal"),
        "3": node("CLIPTextEncode", text="a cat", clip=["4", 1]),
        "4": node("Loader", lora_name="a.safetensors", image="there.png"),
        "9": node("SaveImage", images=["1", 0], filename_prefix="out"),
    }  # fmt: skip
    for name, title in titles.items():
        nodes[name[1:]]["_meta"]["title"] = title
    return nodes


def small_graph(title: str = "Canvas @width") -> dict[str, Any]:
    """Return a graph that the fake engine runs as it is."""
    return {
        "1": node("EmptyImage", title, width=64, height=32, tiled=False),
        "2": node("SaveImage", images=["1", 0], filename_prefix="out"),
    }


def write(
    folder: Path, path: str, content: Mapping[str, Any], description: str | None = None
) -> Path:
    """Write a graph, and what describes it."""
    file = folder / f"{path}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2))
    if description is not None:
        file.with_suffix(".yaml").write_text(description)
    return file
