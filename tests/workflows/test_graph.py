"""Graphs with named inputs, described in YAML or marked in the titles of their nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.errors import RequestError
from comfyui_stateless.workflows.base import WorkflowFileError
from comfyui_stateless.workflows.graph import GraphEndpoint, load
from tests.workflows.definitions import (
    DEFINITIONS,
    SURROUNDINGS,
    graph,
    node,
    surroundings,
    write,
)

YAML = """\
summary: A picture
description: Of what you say.
inputs:
  prompt:
    node: "3"
    input: text
    required: true
    max_length: 20
  width: {node: 1, input: width, maximum: 1024}
  size:
    to:
      - {node: "1", input: height}
      - {node: "2", input: steps}
    default: 30
  seed: {node: 2, input: seed, type: seed}
  cfg: {node: 2, input: cfg, type: number, multiple_of: 0.5}
  sampler: {node: 2, input: sampler_name}
  tiled: {node: 1, input: tiled}
  lora: {node: 4, input: lora_name}
  picture: {node: 4, input: image}
  note: {node: 1, input: note}
"""


async def endpoint(tmp_path: Path, yaml: str | None = YAML, **titles: str) -> GraphEndpoint:
    return await load(write(tmp_path, "file", graph(**titles), yaml), SURROUNDINGS)


async def test_values_go_to_their_places_and_the_rest_stays(tmp_path: Path) -> None:
    made = await (await endpoint(tmp_path)).build(
        {"prompt": "a dog", "size": 40, "cfg": 2, "lora": "https://example.com/x.safetensors"}
    )
    nodes = made.graph
    assert nodes["3"]["inputs"] == {"text": "a dog", "clip": ["4", 1]}
    assert nodes["1"]["inputs"] == {"width": 64, "height": 40, "tiled": False}
    assert nodes["2"]["inputs"]["steps"] == 40
    assert nodes["2"]["inputs"]["cfg"] == 2
    assert nodes["4"]["inputs"]["lora_name"] == "https://example.com/x.safetensors"
    assert nodes["9"] == graph()["9"]


async def test_defaults_are_the_graphs_own_unless_the_file_gives_others(tmp_path: Path) -> None:
    made = await (await endpoint(tmp_path)).build({"prompt": "a dog"})
    given = dict(made.input)
    seed = given.pop("seed")
    assert given == {
        "prompt": "a dog", "width": 64, "size": 30, "cfg": 8.0, "sampler": "euler", "tiled": False,
        "lora": "a.safetensors", "picture": "there.png",
    }  # fmt: skip
    assert made.graph["2"]["inputs"]["seed"] == seed


async def test_a_seed_is_drawn_each_time_and_kept_where_given(tmp_path: Path) -> None:
    file = await endpoint(tmp_path)
    drawn = {(await file.build({"prompt": ""})).input["seed"] for _ in range(20)}
    assert len(drawn) == 20
    assert all(0 <= seed < 2**53 for seed in drawn)
    assert (await file.build({"prompt": "", "seed": 2**64 - 1})).input["seed"] == 2**64 - 1


async def test_the_file_as_it_was_read_is_never_changed(tmp_path: Path) -> None:
    file = await endpoint(tmp_path)
    before = json.dumps(file.definition)
    await file.build({"prompt": "x", "width": 128})
    assert json.dumps(file.definition) == before


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("prompt", 5, "a string, not 5"),
        ("prompt", None, "not null"),
        ("prompt", ["x"], "not a list"),
        ("prompt", {"a": 1}, "not an object"),
        ("prompt", "x" * 21, "21 characters, and 20 are allowed"),
        ("width", "64", "an integer from 16 to 1024, a multiple of 8, not a string"),
        ("width", 1032, "from 16 to 1024"),
        ("width", 8, "from 16 to 1024"),
        ("width", 65, "a multiple of 8, not 65"),
        ("width", 64.0, "an integer"),
        ("width", True, "an integer from 16 to 1024, a multiple of 8, not true"),
        ("width", 10**400, "401 digits"),
        ("size", 0, "from 1 to 10000"),
        ("seed", -1, "from 0 to 18446744073709551615"),
        ("seed", 2**64, "from 0 to 18446744073709551615"),
        ("cfg", 100.5, "from 0.0 to 100.0"),
        ("cfg", 1.3, "a multiple of 0.5"),
        ("cfg", "1", "a number"),
        ("cfg", False, "not false"),
        ("sampler", "eulr", "one of euler, dpmpp_2m"),
        ("sampler", 0, "one of euler, dpmpp_2m"),
        ("tiled", 0, "true or false, not 0"),
        ("tiled", "true", "true or false"),
        ("lora", "c.safetensors", "the URL of a model, or one that is there: a.safetensors, b"),
        ("lora", "", "is empty"),
        ("lora", "upload://x", "cannot come with the request"),
        ("picture", " ", "is empty"),
        ("picture", 3, "a URL, a data URL, base64, or upload://<part>, not 3"),
        ("unknown", 3, "has no input unknown; it has prompt, width, size"),
    ],
)
async def test_a_wrong_value_is_refused_with_what_is_right(
    tmp_path: Path, name: str, value: Any, said: str
) -> None:
    file = await endpoint(tmp_path)
    with pytest.raises(RequestError) as caught:
        await file.build({"prompt": "x", name: value})
    assert said in caught.value.message
    assert caught.value.location == f"input.{name}"
    assert caught.value.status == 400


async def test_a_required_input_that_is_left_out_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"prompt is required") as caught:
        await (await endpoint(tmp_path)).build({})
    assert caught.value.location == "input.prompt"


async def test_the_schema_has_the_types_and_limits_of_comfyui(tmp_path: Path) -> None:
    known = (await endpoint(tmp_path)).description
    members = known.schema["properties"]
    assert (known.summary, known.description) == ("A picture", "Of what you say.")
    assert known.schema["required"] == ["prompt"]
    assert known.schema["additionalProperties"] is False
    assert members["width"] | {"examples": []} == {
        "type": "integer", "minimum": 16, "maximum": 1024, "multipleOf": 8, "default": 64,
        "examples": [],
    }  # fmt: skip
    assert members["size"]["minimum"] == 1
    assert members["size"]["maximum"] == 10000
    assert members["sampler"]["enum"] == ["euler", "dpmpp_2m"]
    assert members["sampler"]["description"] == "How it samples."
    assert {"enum": ["a.safetensors", "b.safetensors"]} in members["lora"]["anyOf"]
    assert "Drawn at random" in members["seed"]["description"]
    assert "default" not in members["seed"]


async def test_the_example_is_an_input_that_is_taken(tmp_path: Path) -> None:
    file = await endpoint(tmp_path)
    assert file.description.example is not None
    assert (await file.build(file.description.example)).input["prompt"] == "a cat"


async def test_a_file_that_came_meanwhile_is_taken_after_a_renewal(tmp_path: Path) -> None:
    file = await endpoint(tmp_path)
    definitions = json.loads(json.dumps(DEFINITIONS))
    definitions["Loader"]["input"]["required"]["lora_name"][0].append("c.safetensors")
    renewed = await file.renewed(surroundings(definitions=definitions))
    assert (await renewed.build({"prompt": "", "lora": "c.safetensors"})).graph["4"]


@pytest.mark.parametrize(
    ("entry", "line", "said"),
    [
        ("node: 77\n    input: text", 3, "no node 77; it has 1, 2, 3, 4, 9"),
        ("node: 3\n    input: txt", 4, "has no input txt; it has text"),
        ("node: 3\n    input: clip", 4, "over a link"),
        ("node: 2\n    input: model", 4, "over a link"),
        ("input: a", 2, "`node` must be the id"),
        ("node: 2\n    input: steps\n    default: 0", 5, "from 1 to 10000, not 0"),
        ("node: 2\n    input: steps\n    default: many", 5, "an integer from 1 to 10000"),
        ("node: 2\n    input: steps\n    maximum: 20000", 5, "own maximum of this input is 10000"),
        ("node: 2\n    input: steps\n    minimum: 50\n    maximum: 40", 5, "more than the maximum"),
        ("node: 2\n    input: steps\n    type: string", 5, "takes integer, not string"),
        ("node: 2\n    input: steps\n    type: int", 5, "must be one of string, integer"),
        ("node: 2\n    input: steps\n    maximun: 4", 5, "inputs.x.maximun: is not known"),
        (
            "node: 2\n    input: steps\n    maximum: 10",
            2,
            "own value must be an integer from 1 to 10, not 20",
        ),
        ("node: 2\n    input: sampler_name\n    enum: [euler, magic]", 5, "magic is not among"),
        ("node: 2\n    input: sampler_name\n    default: magic", 5, "one of euler"),
        ("node: 3\n    input: text\n    minimum: 2", 5, "is for numbers"),
        ("node: 2\n    input: steps\n    max_length: 2", 5, "is for text"),
        ("node: 2\n    input: cfg\n    multiple_of: 0", 5, "more than 0"),
        ("node: 3\n    input: text\n    required: maybe", 5, "true or false"),
        ("node: 3\n    input: text\n    required: true\n    default: a", 6, "no default"),
        ("node: 3\n    input: text\n    default: yes", 5, "a string, not true"),
        ("node: 3\n    input: text\n  x:\n    node: 3", 5, "stands there twice"),
        ("to: []", 3, "a list of"),
        ("to: [{node: 3, input: text}, {node: 2, input: steps}]", 3, "string and integer"),
        ("to: [{node: 3, input: text}]\n    node: 3", 3, "in place of"),
        ("node: 3\n    input: text\n  y:\n    node: 3\n    input: text", 5, "an input already, x"),
        ("- a", 2, "a mapping"),
        ("node: [3", 4, "it is not YAML"),
    ],
)
async def test_a_wrong_description_is_reported_with_its_line(
    tmp_path: Path, entry: str, line: int, said: str
) -> None:
    text = f"inputs:\n  x:\n    {entry}\n"
    file = write(tmp_path, "file", graph(), text)
    with pytest.raises(WorkflowFileError) as caught:
        await load(file, SURROUNDINGS)
    assert said in caught.value.reason
    assert caught.value.file == tmp_path / "file.yaml"
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("{", 1, "not JSON"),
        ('{\n"1": {\n', 3, "not JSON"),
        ('{"1": NaN}', None, "NaN is not a JSON number"),
        ("[]", 1, "node id to node"),
        ("{}", 1, "no nodes"),
        ('{\n"1": {"class_type": "SaveImage", "inputs": {}},\n"1": {}}', 3, "stands there twice"),
        ('{\n\n"1": {"inputs": {}}}', 3, "node 1: A node needs a class_type"),
        ('{"nodes": [],\n"links": []}', 1, "UI format"),
        ('{\n"1": {"class_type": "Other", "inputs": {}}}', 2, "no node class Other"),
        ('{"1": {"class_type": "EmptyImage", "inputs": {}}}', 1, "no output node"),
    ],
)
async def test_a_wrong_graph_is_reported_with_its_line(
    tmp_path: Path, text: str, line: int | None, said: str
) -> None:
    file = tmp_path / "file.json"
    file.write_text(text)
    with pytest.raises(WorkflowFileError) as caught:
        await load(file, SURROUNDINGS)
    assert said in caught.value.reason
    assert (caught.value.file, caught.value.line) == (file, line)


async def test_a_model_that_is_not_there_may_be_the_default_and_may_not_be_given(
    tmp_path: Path,
) -> None:
    text = "inputs:\n  lora: {node: 4, input: lora_name, default: elsewhere.safetensors}\n"
    file = await load(write(tmp_path, "file", graph(), text), SURROUNDINGS)
    assert (await file.build({})).input == {"lora": "elsewhere.safetensors"}
    definitions = json.loads(json.dumps(DEFINITIONS))
    definitions["Loader"]["input"]["required"]["lora_name"][0].clear()
    renewed = await file.renewed(surroundings(definitions=definitions))
    with pytest.raises(RequestError, match="there: none is"):
        await renewed.build({"lora": "a.safetensors"})
    assert (await renewed.build({"lora": "https://example.com/a.safetensors"})).graph


async def test_marks_in_titles_make_inputs(tmp_path: Path) -> None:
    file = await endpoint(
        tmp_path,
        None,
        n1="Size @width @tall=height",
        n2="Sampler @seed",
        n3="What it shows @prompt",
    )
    members = file.description.schema["properties"]
    assert list(members) == ["width", "tall", "seed", "prompt"]
    assert members["prompt"]["description"] == "What it shows"
    made = await file.build({"tall": 100, "prompt": "a dog"})
    assert made.graph["1"]["inputs"] == {"width": 64, "height": 100, "tiled": False}
    assert made.graph["3"]["inputs"]["text"] == "a dog"
    assert made.input["seed"] == made.graph["2"]["inputs"]["seed"]


async def test_a_mark_in_several_titles_sets_all_of_them(tmp_path: Path) -> None:
    nodes = graph(n1="@size=width") | {"5": node("EmptyImage", "@size=width", width=64, height=1)}
    file = await load(write(tmp_path, "file", nodes), SURROUNDINGS)
    made = await file.build({"size": 128})
    assert [made.graph[n]["inputs"]["width"] for n in ("1", "5")] == [128, 128]


async def test_a_mark_that_could_mean_several_widgets_is_reported(tmp_path: Path) -> None:
    with pytest.raises(WorkflowFileError, match=r"@strength=<widget>: seed, steps") as caught:
        await endpoint(tmp_path, None, n2="@strength")
    text = (tmp_path / "file.json").read_text().splitlines()
    assert caught.value.line is not None
    assert '"2": {' in text[caught.value.line - 1]


async def test_a_graph_without_inputs_loads_and_says_so(tmp_path: Path) -> None:
    file = await endpoint(tmp_path, None, n1="mail me@example.com")
    assert file.description.schema["properties"] == {}
    assert "has no inputs" in file.file.warnings[0]
    assert (await file.build({})).graph["1"] == graph(n1="mail me@example.com")["1"]
    with pytest.raises(RequestError, match="it has none"):
        await file.build({"x": 1})


async def test_an_id_of_a_subgraph_is_taken_as_it_is_spelled(tmp_path: Path) -> None:
    nodes = graph() | {"57:8": node("EmptyImage", width=64, height=1)}
    text = "inputs:\n  width:\n    node: 57:8\n    input: width\n"
    file = await load(write(tmp_path, "file", nodes, text), SURROUNDINGS)
    assert (await file.build({"width": 72})).graph["57:8"]["inputs"]["width"] == 72


async def test_aliases_that_multiply_are_refused(tmp_path: Path) -> None:
    text = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}]\n"
        for a, b in zip("abcdefghijkl", "bcdefghijklm", strict=True)
    )
    file = write(tmp_path, "file", graph(), text)
    with pytest.raises(WorkflowFileError, match="parts"):
        await load(file, SURROUNDINGS)


async def test_the_definition_can_be_published_as_it_is(tmp_path: Path) -> None:
    definition = (await endpoint(tmp_path)).definition
    assert definition["graph"] == graph()
    assert definition["inputs"]["width"] == {"node": "1", "input": "width", "maximum": 1024}
    assert definition["inputs"]["size"]["to"][1] == {"node": "2", "input": "steps"}
