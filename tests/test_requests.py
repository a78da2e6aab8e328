from __future__ import annotations

import json
import logging
import uuid
from typing import Any

import pytest

from comfyui_stateless.errors import InvalidPrompt, RequestError
from comfyui_stateless.requests import (
    EXAMPLE_GRAPH,
    MAX_DEPTH,
    MAX_NODES,
    parse_interrupt,
    parse_json,
    parse_prompt,
)


def wire(**fields: Any) -> bytes:
    return json.dumps({"prompt": EXAMPLE_GRAPH, **fields}).encode()


def nested(levels: int) -> bytes:
    return b'{"a": ' * levels + b"1" + b"}" * levels


def test_only_the_prompt_is_required() -> None:
    request = parse_prompt(wire())
    assert request.prompt == EXAMPLE_GRAPH
    assert str(uuid.UUID(request.id)) == request.id
    assert request.convert_output is None
    assert request.timeout_s is None
    assert request.priority == 0
    assert request.extra_data is None


def test_every_field_arrives_as_sent() -> None:
    request = parse_prompt(
        wire(
            id="\U0001f600",
            convert_output={"format": "webp", "options": {"quality": 7}},
            timeout_s=3,
            priority=-2,
            extra_data={"extra_pnginfo": {"workflow": {}}},
        )
    )
    assert request.id == "\U0001f600"
    assert request.convert_output is not None
    assert request.convert_output.extension == "webp"
    assert request.timeout_s == 3
    assert request.priority == -2
    assert request.extra_data == {"extra_pnginfo": {"workflow": {}}}


def test_the_echo_holds_what_was_sent_and_no_secret() -> None:
    request = parse_prompt(
        wire(id="a", priority=0, convert_output={"format": "jpg"}, extra_data={"api_key": "x"})
    )
    assert request.echo() == {"priority": 0, "convert_output": {"format": "jpg"}}
    assert parse_prompt(wire()).echo() == {}


def test_unknown_fields_are_ignored_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "comfyui_stateless.requests"):
        parse_prompt(wire(zebra=1, ant={"secret": "x"}))
    assert "['ant', 'zebra']" in caplog.text
    assert "secret" not in caplog.text


def test_null_counts_as_left_out_for_optional_objects() -> None:
    request = parse_prompt(wire(convert_output=None, timeout_s=None, extra_data=None))
    assert request.convert_output is None


@pytest.mark.parametrize(
    "body", [b"", b"{", b"1", b'"x"', b"null", b"[1]", b"\xff", b'{"a":Infinity}']
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        parse_json(body)


def test_a_body_may_nest_this_deep_and_no_deeper() -> None:
    assert parse_json(nested(MAX_DEPTH - 1))
    for levels in (MAX_DEPTH, 400, 100_000):
        with pytest.raises(RequestError, match="nested"):
            parse_json(nested(levels))


def test_every_error_of_a_request_is_listed() -> None:
    with pytest.raises(RequestError) as caught:
        parse_prompt(wire(id=1, priority="x"))
    locations = [error["location"] for error in caught.value.details["errors"]]
    assert locations == ["id", "priority"]
    assert caught.value.location == "id"


def test_wrong_values_are_not_repeated_in_errors() -> None:
    with pytest.raises(RequestError) as caught:
        parse_prompt(wire(extra_data="hush"))
    assert "hush" not in json.dumps(caught.value.body())


@pytest.mark.parametrize(
    ("graph", "location"),
    [
        ({"1": None}, "prompt.1"),
        ({"1": {"inputs": {}}}, "prompt.1.class_type"),
        ({"1": {"class_type": 3, "inputs": {}}}, "prompt.1.class_type"),
        ({"1": {"class_type": "A", "inputs": []}}, "prompt.1.inputs"),
        ({"nodes": [], "links": [], "version": 0.4}, "prompt"),
    ],
)
def test_what_is_no_graph_is_refused_with_its_place(graph: Any, location: str) -> None:
    with pytest.raises(InvalidPrompt) as caught:
        parse_prompt(wire(prompt=graph))
    assert caught.value.location == location


def test_a_graph_may_have_this_many_nodes_and_no_more() -> None:
    nodes = {str(number): {"class_type": "A", "inputs": {}} for number in range(MAX_NODES)}
    assert len(parse_prompt(wire(prompt=nodes)).prompt) == MAX_NODES
    with pytest.raises(InvalidPrompt, match="10,000 nodes"):
        parse_prompt(wire(prompt={**nodes, "more": nodes["1"]}))


def test_a_graph_whose_node_is_named_nodes_is_a_graph() -> None:
    graph = {"nodes": {"class_type": "A", "inputs": {}}, "links": {"class_type": "A", "inputs": {}}}
    assert parse_prompt(wire(prompt=graph)).prompt == graph


def test_an_interrupt_names_an_id() -> None:
    assert parse_interrupt(b'{"id": "a", "more": 1}').id == "a"
    with pytest.raises(RequestError) as caught:
        parse_interrupt(b'{"id": ""}')
    assert caught.value.location == "id"


def test_a_check_of_ours_speaks_for_itself() -> None:
    with pytest.raises(RequestError) as raised:
        parse_prompt(wire(http_upload={"url_prefix": "ftp://example.com"}))
    assert raised.value.message == (
        "http_upload.url_prefix: The URL has to begin with http:// or https://."
    )
