"""What `comfyui-stateless workflow new` makes, against a real ComfyUI."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from comfyui_stateless.workflows.checking import Checker, definitions_of
from comfyui_stateless.workflows.command import main
from comfyui_stateless.workflows.folder import scan
from tests.comfyui.server import ComfyServer

EXAMPLES = Path(__file__).parents[2] / "examples" / "workflows"
GRAPHS = sorted(EXAMPLES.rglob("*.json"))

EMPTY_IMAGE = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": 255},
    },
    "2": {
        "class_type": "ImageScaleBy",
        "inputs": {"upscale_method": "bilinear", "scale_by": 1, "image": ["1", 0]},
    },
    "3": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x", "images": ["2", 0]}},
}


async def built(path: Path, server: str, given: dict[str, Any]) -> Any:
    checker = Checker(await definitions_of(server))
    try:
        source = scan(path.parent, is_expected=True).sources[path.stem]
        return (await (await checker.load(source)).build(given)).graph
    finally:
        await checker.close()


@pytest.mark.parametrize("form", [[], ["--python"]], ids=["yaml", "python"])
def test_what_is_made_of_a_graph_runs(comfy: ComfyServer, tmp_path: Path, form: list[str]) -> None:
    graph = tmp_path / "exported.json"
    graph.write_text(json.dumps(EMPTY_IMAGE))
    named = ["--server", comfy.url, "--input", "1.color=color"]
    assert main(["new", str(graph), "--name", "made", *named, *form]) == 0
    path = tmp_path / ("made.py" if form else "made.json")
    given = {"width": 128, "scale": 0.5, "color": 0xFF0000}
    graph.unlink()
    reply = comfy.prompt(asyncio.run(built(path, comfy.url, given)))
    assert reply.status == 200
    [image] = reply.images
    assert Image.open(io.BytesIO(image)).size == (64, 24)


def test_comfyuis_own_limits_are_checked(
    comfy: ComfyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = tmp_path / "exported.json"
    graph.write_text(json.dumps(EMPTY_IMAGE))
    assert main(["new", str(graph), "--server", comfy.url]) == 0
    file = tmp_path / "exported.yaml"
    text = file.read_text().replace("input: width", "input: width\n    maximum: 1000000")
    file.write_text(text)
    line = 1 + text.splitlines().index("    maximum: 1000000")
    assert main(["check", str(file)]) == 0
    assert main(["check", str(file), "--server", comfy.url]) == 1
    assert f"{file}:{line}: inputs.width.maximum: ComfyUI's own" in capsys.readouterr().err


@pytest.mark.parametrize("form", [[], ["--python"]], ids=["yaml", "python"])
def test_what_is_made_of_the_examples_fits_comfyuis_nodes(
    comfy: ComfyServer, tmp_path: Path, form: list[str]
) -> None:
    server = ["--server", comfy.url]
    known = asyncio.run(definitions_of(comfy.url))
    # An older ComfyUI lacks the nodes of newer models.
    graphs = [graph for graph in GRAPHS if classes(graph) <= known.keys()]
    assert len(graphs) >= 10
    for graph in graphs:
        name = "-".join(graph.relative_to(EXAMPLES).with_suffix("").parts)
        output = ["--output", str(tmp_path), "--name", name]
        assert main(["new", str(graph), *output, *form, *server]) == 0
    assert main(["check", str(tmp_path), *server]) == 0


def classes(graph: Path) -> set[str]:
    return {node["class_type"] for node in json.loads(graph.read_text()).values()}
