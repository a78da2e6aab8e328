"""Workflow endpoints of any names, files and inputs: published, called and removed, or refused."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jsonschema
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from comfyui_stateless.naming import leaves_folder
from comfyui_stateless.wire import to_json
from comfyui_stateless.workflows.base import WorkflowFileError
from comfyui_stateless.workflows.graph import GraphEndpoint
from comfyui_stateless.workflows.graph_file import read_graph_file
from tests.fakes import CLASSES, FakeEngine
from tests.fuzz.serving import Served, send, served
from tests.fuzz.strategies import IDS
from tests.workflows.definitions import (
    DEFINITIONS,
    FILES,
    MODELS,
    NODE_CLASSES,
    SURROUNDINGS,
    graph,
    node,
    small_graph,
)

NAMES = st.one_of(
    IDS,
    st.lists(st.sampled_from(["a", "b", "..", ".", "", "a b", "x.json", "_x", "A"])).map("/".join),
)
NUMBERS = st.one_of(
    st.integers(-100, 100), st.integers(-(10**30), 10**30), st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -0.0, 1e308, -1e308, 5e-324, 1e-300, 0.1, 10**400, -(10**400), 2**63, 2**64, True]),
)  # fmt: skip
VALUES = st.one_of(
    st.none(), st.booleans(), NUMBERS, st.text(max_size=8),
    st.sampled_from(["", "nan", "1e-3", "inf", "euler", "a.safetensors", "\ud800", "2001-01-01", "y", "x" * 300]),
    st.just([]), st.just({}), st.lists(st.integers(), max_size=2),
)  # fmt: skip
KINDS = ("string", "integer", "number", "boolean", "seed", "enum", "image", "model", "x")
PLACES = st.sampled_from(
    [("1", "width"), ("1", "tiled"), ("1", "note"), ("2", "filename_prefix"), ("2", "images"), ("1", "undeclared"),
     ("9", "x"), ("1", None), (1, "height")]
)  # fmt: skip
SETTINGS = {
    "type": st.sampled_from(KINDS),
    "default": VALUES,
    "example": VALUES,
    "required": st.one_of(st.booleans(), VALUES),
    "enum": st.one_of(st.lists(VALUES, max_size=3), VALUES),
    "minimum": VALUES,
    "maximum": VALUES,
    "multiple_of": VALUES,
    "max_length": VALUES,
    "title": VALUES,
    "description": VALUES,
    "to": st.one_of(VALUES, st.lists(st.just({"node": "1", "input": "width"}), max_size=2)),
    "unknown": VALUES,
}
INPUTS = st.dictionaries(
    st.one_of(st.sampled_from(["width", "a", ""]), st.text(max_size=5)),
    st.one_of(
        st.builds(
            lambda place, said: {"node": place[0], "input": place[1], **said},
            PLACES,
            st.fixed_dictionaries({}, optional=SETTINGS),
        ),
        VALUES,
    ),
    max_size=3,
)
GRAPHS = st.one_of(
    st.builds(small_graph, st.text(max_size=20)),
    st.sampled_from(["Canvas @width", "@a=width @a=height", "@", "@width=none", "@\ud800"]).map(small_graph),
    st.just(graph()),
    st.dictionaries(
        st.sampled_from(["1", "2", "\ud800", "a/b", ""]),
        st.builds(lambda value: node("EmptyImage", width=value, tiled=value), VALUES),
        max_size=2,
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("publishing")
    engine = FakeEngine(
        definitions=DEFINITIONS,
        classes={**NODE_CLASSES, **CLASSES},
        model_files=MODELS,
        file_inputs=FILES,
    )
    settings = {"workflow_dir": folder / "workflows", "allow_publish": True}
    with served(folder / "served", engine, **settings) as site:
        yield site
        assert not site.errors
        assert {path.name for path in folder.iterdir()} <= {"served", "workflows"}


def _ask(site: Served, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Send a request to an endpoint; return the status, and what the answer says."""
    place = quote(path.encode("utf-8", "surrogatepass"), safe="/.")
    content = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    status, answer = send(site, method, f"/workflow/{place}", content, headers)
    assert status < 500, answer
    said: Any = json.loads(answer, parse_constant=_refuse) if answer.startswith(b"{") else answer
    return status, said


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def _files(site: Served) -> list[Path]:
    return [path for path in (site.folder.parent / "workflows").rglob("*") if path.is_file()]


@given(path=NAMES)
def test_any_path_is_published_within_the_folder_or_refused(site: Served, path: str) -> None:
    status, said = _ask(site, "PUT", path, {"graph": small_graph()})
    try:
        assert status not in (200, 201) or said["path"] == path
        assert status not in (200, 201) or _ask(site, "POST", path, {"input": {}})[0] == 200
    finally:
        assert status not in (200, 201) or _ask(site, "DELETE", path)[0] == 200
    assert not _files(site)


@pytest.mark.parametrize("path", ["a\nb", "\n", "a\r", "a\u2028b"])
def test_a_path_with_a_line_break_is_refused_as_any_other(site: Served, path: str) -> None:
    status, said = _ask(site, "PUT", path, {"graph": small_graph()})
    assert (status, said["location"]) == (400, "path")


@given(
    body=st.fixed_dictionaries(
        {"graph": GRAPHS},
        optional={"inputs": INPUTS, "summary": VALUES, "description": VALUES, "x": VALUES},
    )
)
def test_any_workflow_is_published_whole_or_refused(site: Served, body: dict[str, Any]) -> None:
    status, said = _ask(site, "PUT", "any", body)
    if status != 201:
        assert not _files(site)
        return
    try:
        assert _ask(site, "GET", "any") == (200, said)
        listed = json.loads(send(site, "GET", "/workflow", None, {})[1])
        assert [each["path"] for each in listed["workflows"]] == ["any"]
        assert listed["errors"] == []
        again = {**said["definition"], "summary": said["summary"]}
        assert _ask(site, "PUT", "any", again)[0] == 200, again
        _ask(site, "POST", "any", {"input": said["example"] or {}})
        assert send(site, "GET", "/openapi.json", None, {})[0] == 200
    finally:
        assert _ask(site, "DELETE", "any")[0] == 200
    assert not _files(site)


SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "integer": st.fixed_dictionaries(
        {}, optional={"minimum": st.integers(16, 99), "maximum": st.integers(100, 9999), "multiple_of": st.integers(1, 9)}
    ),
    "string": st.fixed_dictionaries(
        {}, optional={"max_length": st.integers(3, 9), "enum": st.just(["out", "a", "\u00e9"])}
    ),
    "boolean": st.just({}),
}  # fmt: skip
TARGETS = {
    "integer": {"node": "1", "input": "width"},
    "string": {"node": "2", "input": "filename_prefix"},
    "boolean": {"node": "1", "input": "tiled"},
}


@given(data=st.data(), kind=st.sampled_from(sorted(SCALARS)), value=VALUES)
def test_a_value_is_taken_exactly_where_the_schema_says_so(
    site: Served, data: st.DataObject, kind: str, value: Any
) -> None:
    said: dict[str, Any] = {
        **TARGETS[kind],
        "default": {"integer": 72, "string": "a", "boolean": True}[kind],
    }
    said = {**said, **data.draw(SCALARS[kind])}
    status, published = _ask(site, "PUT", "typed", {"graph": small_graph(), "inputs": {"v": said}})
    assume(status in (200, 201))  # a default that the limits leave out
    value = data.draw(st.one_of(st.just(value), st.integers(0, 200), st.sampled_from(["a", "out"])))
    assume(not isinstance(value, float) and not (isinstance(value, int) and abs(value) > 1e300))
    is_right = jsonschema.Draft202012Validator(published["schema"]).is_valid({"v": value})
    answer = _ask(site, "POST", "typed", {"input": {"v": value}})
    assume(value != "\ud800" and value != "")
    assume(not (isinstance(value, str) and leaves_folder(value)))  # it is a prefix of files
    assert (answer[0] == 200) == is_right, (published["schema"], answer)


FRAGMENTS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "inputs:", "\n", "\n  ", "\n    ", "width: ", "{", "}", "[", "]", ", ", ": ", "- ", "node: 1", "input: width",
                "node: 1\n", "&a ", "*a", "<<: ", "<<: *a", "!!int ", "!!float ", "!!bool ", "!!timestamp ", "!!binary ",
                "!!set ", "!!omap ", "!!pairs ", "!!null ", "!!python/object:os.system ", "!x ", "? ", "| \n", ">\n",
                "'", '"', "\\", "#", "%YAML 1.1\n---\n", "---\n", "...\n", "2001-01-01", "2001-01-01T00:00:00Z", ".nan",
                ".inf", "-.inf", "1e400", "9" * 5000, "0o17", "017", "1:30", "1_0", "~", "yes", "=", "default: ", "enum: ",
                "minimum: ", "maximum: ", "multiple_of: ", "type: number", "type: enum", "max_length: ", "example: ", "to: ",
                "\t", "\0", "\ufeff", "\u2028", "\x85", "\ud800", "\U0001f5bc", "\"\\ud800\"", "summary: ", "description: ",
            ]
        ),
        st.text(max_size=3),
    ),
    max_size=20,
).map("".join)  # fmt: skip

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
SAYING = "inputs: {{a: {{node: 1, input: undeclared, {}}}}}"
FILES_OF_YAML = st.one_of(
    FRAGMENTS,
    FRAGMENTS.map("inputs: {{a: {{node: 1, input: width, default: {}}}}}".format),
    FRAGMENTS.map("inputs:\n  a:\n    node: 1\n    input: note\n    default: {}".format),
    FRAGMENTS.map(SAYING.format),
    st.integers(1, 400).map(lambda depth: "inputs: " + "[" * depth + "]" * depth),
    st.integers(1, 400).map(lambda depth: "{a: " * depth + "}" * depth),
)


@given(text=FILES_OF_YAML)
@example(text=BOMB)
@example(text=SAYING.format("default: 2001-01-01"))
@example(text=SAYING.format("default: .nan"))
@example(text=SAYING.format("example: !!set {a, b}"))
@example(text=SAYING.format("default: !!binary YQ=="))
@example(text=SAYING.format("enum: [.inf]"))
@example(text=SAYING.format("minimum: " + "9" * 400))
@example(text=SAYING.format("type: [a]"))
@example(text=SAYING.format("type: {a: 1}"))
def test_any_yaml_makes_an_endpoint_that_can_be_described_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    source, described = folder / "any.json", folder / "any.yaml"
    source.write_text(json.dumps(small_graph()))
    described.write_bytes(text.encode("utf-8", "surrogatepass"))
    began = time.monotonic()
    with suppress(WorkflowFileError):
        endpoint = GraphEndpoint(read_graph_file(source, described), SURROUNDINGS)
        said = [endpoint.description.schema, endpoint.description.example, endpoint.definition]
        json.loads(to_json(said), parse_constant=_refuse)
    assert time.monotonic() - began < 30


@given(
    content=st.one_of(
        GRAPHS.map(lambda g: json.dumps(g).encode()),
        st.binary(max_size=40),
        FRAGMENTS.map(lambda t: t.encode("utf-8", "surrogatepass")),
    )
)
def test_any_file_of_a_graph_is_an_endpoint_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    source = tmp_path_factory.getbasetemp() / "graph.json"
    source.write_bytes(content)
    with suppress(WorkflowFileError):
        endpoint = GraphEndpoint(read_graph_file(source, None), SURROUNDINGS)
        json.loads(
            to_json([endpoint.description.schema, endpoint.definition]), parse_constant=_refuse
        )
