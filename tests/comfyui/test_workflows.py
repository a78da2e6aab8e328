"""Workflow endpoints in graphs and Python on real ComfyUIs."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.comfyui.conftest import required
from tests.comfyui.graphs import node
from tests.comfyui.server import ComfyServer, Install

EXAMPLES = Path(__file__).parents[2] / "examples" / "workflows"

GRAPH = {
    "1": {
        **node("EmptyImage", width=64, height=32, batch_size=1, color=255),
        "_meta": {"title": "Canvas @width @shade=color"},
    },
    "2": node("SaveImage", images=["1", 0], filename_prefix="out"),
}

LOADED = {
    "1": {**node("LoadImage", image="nothing.png"), "_meta": {"title": "@picture"}},
    "2": node("ImageInvert", image=["1", 0]),
    "3": node("SaveImage", images=["2", 0], filename_prefix="out"),
}

SAMPLED = {
    "1": node("CheckpointLoaderSimple", ckpt_name="nothing.safetensors"),
    "2": node("CLIPTextEncode", text="a cat", clip=["1", 1]),
    "3": node("EmptyLatentImage", width=512, height=512, batch_size=1),
    "4": node("KSampler", model=["1", 0], positive=["2", 0], negative=["2", 0],
              latent_image=["3", 0], seed=1, steps=20, cfg=8.0, sampler_name="euler",
              scheduler="normal", denoise=1.0),
    "5": node("VAEDecode", samples=["4", 0], vae=["1", 2]),
    "6": node("SaveImage", images=["5", 0], filename_prefix="out"),
}  # fmt: skip

DESCRIBED = """\
inputs:
  checkpoint: {node: 1, input: ckpt_name}
  steps: {node: 4, input: steps, maximum: 50}
  sampler: {node: 4, input: sampler_name}
  width: {node: 3, input: width}
"""

PYTHON = """\
from comfyui_stateless.workflows import Sampler, Seed, models, samplers
from pydantic import BaseModel, Field
from server import height
class RequestSchema(BaseModel):
    width: int = Field(ge=16, le=256)
    seed: Seed
    sampler: Sampler = samplers[0]
def generate_workflow(input):
    assert "checkpoints" in models
    return {
        "1": {"class_type": "EmptyImage",
              "inputs": {"width": input.width, "height": height, "batch_size": 1,
                         "color": input.seed % 2**24}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "p"}},
    }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workflows")
    (folder / "marked.json").write_text(json.dumps(GRAPH))
    (folder / "loaded.json").write_text(json.dumps(LOADED))
    (folder / "sampled.json").write_text(json.dumps(SAMPLED))
    (folder / "sampled.yaml").write_text(DESCRIBED)
    (folder / "python.py").write_text(PYTHON)
    (folder / "server.py").write_text("height = 48\n")  # ComfyUI has a module of this name
    (folder / "broken.py").write_text("import nowhere_at_all\n")
    (folder / "examples").symlink_to(EXAMPLES)
    return folder


@pytest.fixture(scope="module")
def server(
    each_install: Install | None, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    install = required(each_install)
    base = tmp_path_factory.mktemp(f"comfyui-{install.version}")
    env = {"WORKFLOW_DIR": str(folder), "ALLOW_PUBLISH": "true"}
    with ComfyServer(install, base, env) as server:
        server.wait_until_ready()
        yield server


def post(server: ComfyServer, path: str, **given: Any) -> Any:
    return server.post(f"/api/stateless/workflow/{path}", {"input": given})


def test_a_marked_graph_runs_with_the_values_that_are_given(server: ComfyServer) -> None:
    reply = post(server, "marked", width=128, shade=0x102030)
    assert reply.status == 200, reply.body
    with Image.open(io.BytesIO(reply.images[0])) as image:
        assert image.size == (128, 32)
        assert image.getpixel((0, 0)) == (0x10, 0x20, 0x30)
    assert reply.json["input"] == {"width": 128, "shade": 0x102030}


def test_a_python_file_finds_the_running_package_and_the_file_beside_it(
    server: ComfyServer,
) -> None:
    reply = post(server, "python", width=64)
    assert reply.status == 200, reply.body
    with Image.open(io.BytesIO(reply.images[0])) as image:
        assert image.size == (64, 48)
        red, green, blue = image.getpixel((0, 0))
    assert reply.json["input"]["seed"] % 2**24 == (red << 16) + (green << 8) + blue
    listed = server.get("/object_info/KSampler").json["KSampler"]["input"]["required"]
    assert reply.json["input"]["sampler"] == listed["sampler_name"][0][0]


def test_a_picture_comes_as_base64(server: ComfyServer) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (255, 255, 255)).save(file, "PNG")
    reply = post(server, "loaded", picture=base64.b64encode(file.getvalue()).decode())
    assert reply.status == 200, reply.body
    with Image.open(io.BytesIO(reply.images[0])) as image:
        assert image.convert("RGB").getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("given", "name", "said"),
    [
        ({"steps": 51}, "steps", "from 1 to 50"),
        ({"steps": "5"}, "steps", "an integer"),
        ({"sampler": "eulr"}, "sampler", "one of euler"),
        ({"width": 20}, "width", "a multiple of 8"),
        ({"width": 10**6}, "width", "from 16 to 16384"),
        ({"checkpoint": None}, "checkpoint", "not null"),
        ({"other": 1}, "other", "it has checkpoint, steps, sampler, width"),
    ],
)
def test_a_wrong_value_is_refused_with_comfyuis_own_limits(
    server: ComfyServer, given: dict[str, Any], name: str, said: str
) -> None:
    reply = post(server, "sampled", **given)
    assert (reply.status, reply.json["location"]) == (400, f"input.{name}")
    assert said in reply.json["error"]


def test_a_model_that_came_meanwhile_is_taken(server: ComfyServer) -> None:
    name = "late.safetensors"
    refused = post(server, "sampled", checkpoint=name)
    assert (refused.status, refused.json["location"]) == (400, "input.checkpoint")
    file = server.base / "models" / "checkpoints" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    deadline = time.monotonic() + 20
    while (said := post(server, "sampled", checkpoint=name).json)["location"] == "input.checkpoint":
        assert time.monotonic() < deadline, said
        time.sleep(0.1)
    assert said["code"] == "execution_error"
    file.unlink()


def test_the_list_names_what_is_broken_and_serves_the_rest(server: ComfyServer) -> None:
    said = server.get("/api/stateless/workflow").json
    wrong = {error["file"]: error for error in said["errors"]}
    assert wrong["broken.py"]["line"] == 1
    assert "nowhere_at_all" in wrong["broken.py"]["reason"]
    assert "broken.py:1" in server.log
    assert {"marked", "python", "sampled", "loaded"} <= {w["path"] for w in said["workflows"]}


def test_the_examples_load_where_comfyui_has_their_nodes(server: ComfyServer) -> None:
    said = server.get("/api/stateless/workflow").json
    wrong = [e for e in said["errors"] if e["file"].startswith("examples/")]
    assert [e for e in wrong if "no node class" not in e["reason"]] == []
    good = [w for w in said["workflows"] if w["path"].startswith("examples/") and "schema" in w]
    assert len(good) >= 8


def test_a_file_that_is_edited_counts_without_a_restart(server: ComfyServer, folder: Path) -> None:
    part, file = folder / ".part", folder / "edited.json"
    for width in (16, 24):
        nodes = json.loads(json.dumps(GRAPH))
        nodes["1"]["inputs"]["width"] = width
        part.write_text(json.dumps(nodes))
        part.replace(file)
        deadline = time.monotonic() + 20
        while post(server, "edited").json.get("input", {}).get("width") != width:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    file.unlink()


def test_a_graph_is_published_run_and_removed(server: ComfyServer, folder: Path) -> None:
    path = "/api/stateless/workflow/own/new"
    body = {"graph": GRAPH, "inputs": {"size": {"node": "1", "input": "width"}}}
    reply = server.request("PUT", path, body, {})
    assert reply.status == 201, reply.body
    assert post(server, "own/new", size=24).status == 200
    assert server.request("DELETE", path, None, {}).status == 200
    assert not (folder / "own").exists(), "the folder made for it went with it"


def test_the_document_describes_every_endpoint(server: ComfyServer) -> None:
    paths = server.get("/api/stateless/openapi.json").json["paths"]
    assert "| `width` | integer, 16 to " in paths["/workflow/python"]["post"]["description"]
    assert "/workflow/sampled" in paths
