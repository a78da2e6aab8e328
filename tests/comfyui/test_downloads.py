"""Models that are fetched ahead of time, into the folders of real ComfyUIs."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

import pytest

from tests.cache.content import safetensors
from tests.cache.origin import Origin
from tests.comfyui.graphs import node
from tests.comfyui.server import ComfyServer, Reply


@pytest.fixture
def name() -> str:
    """A model that no other test has."""
    return f"{uuid.uuid4().hex}.safetensors"


def download(comfy: ComfyServer, url: str, **fields: Any) -> Reply:
    body = {"url": url, "model_type": "checkpoints", "wait": True, **fields}
    return comfy.post("/api/stateless/download", body)


def digest(comfy: ComfyServer, name: str) -> str:
    """Return what a node reads of a model, as its SHA-256."""
    reply = comfy.prompt({"1": node("TestReadsCheckpoint", name=name)})
    assert reply.status == 200, reply.body
    return str(reply.json["texts"][0]["text"])


def test_a_model_can_be_read_as_soon_as_it_is_fetched(
    comfy: ComfyServer, origin: Origin, name: str
) -> None:
    for seed, path in enumerate((f"/{name}", f"/again/{name}")):
        content = safetensors(64, seed)
        reply = download(comfy, origin.put(path, content))
        assert (reply.status, reply.json["status"]) == (200, "completed"), reply.body
        assert (reply.json["filename"], reply.json["size"]) == (name, len(content))
        assert name in comfy.get("/api/stateless/models").json["checkpoints"]
        assert digest(comfy, name) == hashlib.sha256(content).hexdigest()


def test_a_folder_below_may_be_named(comfy: ComfyServer, origin: Origin, name: str) -> None:
    reply = download(comfy, origin.put(f"/{name}", safetensors()), filename=f"below/{name}")
    assert (reply.status, reply.json["filename"]) == (200, f"below/{name}")
    assert digest(comfy, f"below/{name}") == hashlib.sha256(safetensors()).hexdigest()


def test_a_file_of_somebody_elses_is_refused_and_stays(
    comfy: ComfyServer, origin: Origin, name: str
) -> None:
    mine = comfy.base / "models" / "checkpoints" / name
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_bytes(b"mine")
    reply = download(comfy, origin.put(f"/{name}", safetensors()))
    assert (reply.status, name in reply.json["error"]) == (400, True)
    assert mine.read_bytes() == b"mine"
    mine.unlink()


@pytest.mark.parametrize("model_type", ["custom_nodes", "unheard", "../models/loras", "", "input"])
def test_only_folders_of_models_are_written(
    comfy: ComfyServer, origin: Origin, name: str, model_type: str
) -> None:
    reply = download(comfy, origin.put(f"/{name}", safetensors()), model_type=model_type)
    assert reply.status == 400, reply.body
    assert reply.json["error"]
    assert not [seen for seen in origin.seen if seen.path == f"/{name}"]


@pytest.mark.parametrize("filename", ["../x.safetensors", "/tmp/x.safetensors", "a/../../x.ckpt"])
def test_a_name_that_leaves_the_folder_is_refused(
    comfy: ComfyServer, origin: Origin, name: str, filename: str
) -> None:
    reply = download(comfy, origin.put(f"/{name}", safetensors()), filename=filename)
    assert (reply.status, reply.json["location"]) == (400, "filename")
    assert not [seen for seen in origin.seen if seen.path == f"/{name}"]
