from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.engine import NodeClass
from comfyui_stateless.errors import InvalidPrompt, NoOutput
from comfyui_stateless.prepare import name_outputs, prepare
from comfyui_stateless.requests import PromptRequest
from tests.fakes import CLASSES, FakeEngine, FakeWorkspace, graph
from tests.wiring import end, services_for


def prepared(prompt: dict[str, Any], *, prepend: bool = True) -> dict[str, Any]:
    return name_outputs(prompt, CLASSES.get, "a_b", prepend=prepend)


def prefix_of(named: dict[str, Any], node_id: str = "2") -> Any:
    return named[node_id]["inputs"].get("filename_prefix")


def test_the_safe_id_goes_in_front_of_the_prefix() -> None:
    assert prefix_of(prepared(graph("folder/picture"))) == "folder/a_b_picture"


def test_or_replaces_it() -> None:
    assert prefix_of(prepared(graph("folder/picture"), prepend=False)) == "a_b"


def test_a_prefix_that_is_left_out_is_the_class_s_default() -> None:
    assert prefix_of(prepared(graph(None))) == "a_b_ComfyUI"


def test_a_prefix_that_is_a_number_is_its_text() -> None:
    wanted = graph()
    wanted["2"]["inputs"]["filename_prefix"] = 7
    assert prefix_of(prepared(wanted)) == "a_b_7"


def test_a_prefix_that_comes_over_a_link_is_left() -> None:
    wanted = graph()
    wanted["2"]["inputs"]["filename_prefix"] = ["1", 0]
    assert prefix_of(prepared(wanted)) == ["1", 0]


def test_an_output_node_without_a_prefix_gets_none() -> None:
    wanted = {"1": {"class_type": "PreviewAny", "inputs": {"source": 1}}}
    assert prepared(wanted) == wanted


def test_a_node_that_is_no_output_keeps_its_prefix() -> None:
    wanted = graph()
    wanted["1"]["inputs"]["filename_prefix"] = "mine"
    assert prefix_of(prepared(wanted), "1") == "mine"


def test_the_request_s_graph_is_not_edited() -> None:
    wanted = graph()
    assert prepared(wanted) != wanted
    assert wanted == graph()


async def test_ids_and_extra_data_are_handed_on(tmp_path: Path) -> None:
    extra_data = {"api_key_comfy_org": "hush"}
    request = PromptRequest(prompt=graph(), id="a/b", extra_data=extra_data)
    services = services_for(FakeEngine(), tmp_path)
    prompt = await prepare(
        request,
        "run-1",
        services.engine,
        services.fetcher,
        FakeWorkspace(tmp_path),
        lambda _: None,
        prepend_filenames=True,
    )
    await end(services)
    assert prefix_of(dict(prompt.graph)) == "a_b_picture"
    assert (prompt.id, prompt.run_id, prompt.name_prefix) == ("a/b", "run-1", "a_b_")
    assert prompt.extra_data == {"api_key_comfy_org": "hush"}
    assert "hush" not in repr(prompt)


def test_a_graph_without_output_nodes_is_refused() -> None:
    with pytest.raises(NoOutput):
        prepared({"1": {"class_type": "EmptyImage", "inputs": {}}})


def test_an_unknown_class_is_left_for_comfyui_to_refuse() -> None:
    wanted = {"1": {"class_type": "Unheard", "inputs": {}}}
    assert prepared(wanted) == wanted


@pytest.mark.parametrize("prefix", ["../x", "/etc/x", "a/../../x", "c:\\x"])
def test_a_prefix_that_leaves_the_output_folder_is_refused_with_its_place(prefix: str) -> None:
    with pytest.raises(InvalidPrompt) as caught:
        prepared(graph(prefix))
    assert caught.value.location == "prompt.2.inputs.filename_prefix"


def test_a_default_that_is_no_text_leaves_the_node_without_a_prefix() -> None:
    classes = {"SaveImage": NodeClass(is_output=True, has_prefix=True, default_prefix=None)}
    wanted = {"2": {"class_type": "SaveImage", "inputs": {}}}
    assert name_outputs(wanted, classes.get, "a", prepend=True) == wanted
