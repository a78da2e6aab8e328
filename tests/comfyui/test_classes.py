"""Classes that are not there, before anything is fetched; and lists of models."""

from __future__ import annotations

import uuid

import pytest

from tests.cache.content import safetensors
from tests.cache.origin import Origin
from tests.comfyui.graphs import node
from tests.comfyui.server import ComfyServer


def test_classes_that_are_not_there_are_refused_before_anything_is_fetched(
    comfy: ComfyServer, origin: Origin
) -> None:
    path = f"/{uuid.uuid4().hex}"
    graph = {
        "1": node("LoadImage", image=origin.put(path, b"never asked for")),
        "2": node("NoSuchClass", image=["1", 0]),
        "3": node("NorThisOne", image=["1", 0]),
        "9": node("SaveImage", images=["2", 0], filename_prefix="x"),
    }
    reply = comfy.prompt(graph)
    assert (reply.status, reply.json["code"]) == (400, "invalid_prompt")
    assert reply.json["location"] == "prompt.2.class_type"
    assert set(reply.json["details"]["node_errors"]) == {"2", "3"}
    found = comfy.post("/api/stateless/validate", {"prompt": graph}).json["missing_nodes"]
    assert [missing["class_type"] for missing in found] == ["NoSuchClass", "NorThisOne"]
    assert [seen.method for seen in origin.seen if seen.path == path] == ["HEAD"]


@pytest.mark.parametrize("class_type", ["TestSpoke", "TestTold"])
def test_a_class_that_a_pack_or_comfyui_replaces_is_run(
    comfy: ComfyServer, class_type: str
) -> None:
    graph = {"1": node(class_type, words="hello")}
    reply = comfy.prompt(graph)
    assert reply.status == 200, reply.body
    assert [text["text"] for text in reply.json["texts"]] == ["hello"]
    found = comfy.post("/api/stateless/validate", {"prompt": graph}).json
    assert found["valid"], found


def test_an_input_of_several_models_takes_their_urls(comfy: ComfyServer, origin: Origin) -> None:
    if (0, 8, 0) <= comfy.install.numbers < (0, 21, 0):
        pytest.skip("its check takes the whole list for one value, and refuses that")
    paths = [f"/{uuid.uuid4().hex}/vae.safetensors" for _ in range(2)]
    urls = [origin.put(path, safetensors(64, seed)) for seed, path in enumerate(paths)]
    graph = {"1": node("TestModernLoader", lora="None", many={"__value__": urls})}
    found = comfy.post("/api/stateless/validate", {"prompt": graph}).json
    assert found["valid"], found
    assert {download["url"] for download in found["downloads"]} == set(urls)
    reply = comfy.prompt(graph)
    assert reply.status == 200, reply.body
    names = reply.json["prompt"]["1"]["inputs"]["many"]["__value__"]  # as it was sent
    assert len(set(names)) == 2
    assert set(names) <= set(comfy.get("/api/stateless/models").json["vae"])
    gone = comfy.prompt(
        {
            "1": node(
                "TestModernLoader", lora="None", many={"__value__": [names[0], origin.url("/no")]}
            )
        }
    )
    assert (gone.status, gone.json["location"]) == (400, "prompt.1.inputs.many")
