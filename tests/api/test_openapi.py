from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from yarl import URL

from comfyui_stateless.api import schemas
from comfyui_stateless.api.app import ANY_ID, ANY_PATH, ROUTES
from comfyui_stateless.api.openapi import document
from comfyui_stateless.requests import PromptRequest, check_graph
from comfyui_stateless.workflows.base import Description
from tests.api.conftest import Serve

ENDPOINTS = {
    "a b/{c}": Description(
        {
            "type": "object",
            "properties": {"model": {"$ref": "#/$defs/Model"}, "n": {"type": "integer"}},
            "required": ["n"],
            "$defs": {"Model": {"enum": ["a", "b"]}},
        },
        summary="One",
        example={"n": 1},
    )
}


def described(*, needs_key: bool = False, server: str = ".") -> dict[str, Any]:
    content = document(ENDPOINTS, needs_key=needs_key)
    made: dict[str, Any] = json.loads(json.dumps({**content, "servers": [{"url": server}]}))
    return made


DOCUMENT: dict[str, Any] = described()


def resolved(schema: Any) -> Any:
    """Return a schema that stands on its own, with the document's models beside it."""
    text = json.dumps(schema).replace("#/components/schemas/", "#/$defs/")
    models = json.dumps(DOCUMENT["components"]["schemas"])
    models = models.replace("#/components/schemas/", "#/$defs/")
    return {"$defs": json.loads(models), "allOf": [json.loads(text)]}


def examples(node: Any, path: str = "") -> Iterator[Any]:
    """Yield each example with the schema that it stands for."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from examples(item, f"{path}/{index}")
    if isinstance(node, dict):
        if isinstance(node.get("examples"), list):
            yield from (pytest.param(node, e, id=path) for e in node["examples"])
        if "example" in node:
            yield pytest.param(node["schema"], node["example"], id=path)
        for key, item in node.items():
            if key not in ("example", "examples", "mapping"):
                yield from examples(item, f"{path}/{key}")


UNLISTED = {"/docs/", "/docs/{name}"}

ALL_EXAMPLES = list(examples(DOCUMENT))


@pytest.mark.parametrize("needs_key", [False, True])
async def test_the_document_is_valid(needs_key: bool) -> None:
    document = described(needs_key=needs_key, server="..")
    OpenAPIV31SpecValidator(document).validate()


@pytest.mark.parametrize(("schema", "example"), ALL_EXAMPLES)
def test_every_example_is_valid(schema: Any, example: Any) -> None:
    OAS31Validator(resolved(schema)).validate(example)


def test_there_are_examples_of_requests_replies_and_errors() -> None:
    assert len(ALL_EXAMPLES) > 15


def test_the_example_request_is_one_that_the_route_takes() -> None:
    (example,) = DOCUMENT["components"]["schemas"]["PromptRequest"]["examples"]
    check_graph(PromptRequest.model_validate(example).prompt)


def test_the_example_reply_is_a_reply() -> None:
    (example,) = DOCUMENT["components"]["schemas"]["PromptReply"]["examples"]
    reply = schemas.PromptReply.model_validate(example)
    assert len(reply.images) == len(reply.filenames) == len(reply.outputs) == 1


OWN_PATH = "/workflow/a%20b/%7Bc%7D"


def test_every_endpoint_is_described_with_its_schema_and_its_table() -> None:
    operation = DOCUMENT["paths"][OWN_PATH]["post"]
    assert operation["summary"] == "One"
    assert operation["description"].splitlines() == [
        "| Field | Type | Description | Default |",
        "|---|---|---|---|",
        "| `model` | `a`, `b` |  |  |",
        "| `n` | integer |  | *required* |",
    ]
    body = operation["requestBody"]["content"]["application/json"]
    OAS31Validator(resolved(body["schema"])).validate({"input": {"n": 1, "model": "b"}})
    for wrong in ({"n": "1"}, {"n": 1, "model": "c"}, {}):
        assert not OAS31Validator(resolved(body["schema"])).is_valid({"input": wrong})


def test_every_route_is_described_and_nothing_else() -> None:
    paths = {r.path: r.path.replace(ANY_ID, "{id}").replace(ANY_PATH, "{path}") for r in ROUTES}
    served = {(r.method.lower(), paths[r.path]) for r in ROUTES if r.path not in UNLISTED}
    described = {
        (method, path)
        for path, methods in DOCUMENT["paths"].items()
        for method in methods
        if path != OWN_PATH
    }
    assert described == served


OTHER_ERRORS = {"/health", "/ready", "/interrupt", "/jobs/{run}/interrupt"}


def test_every_error_is_in_the_one_shape() -> None:
    shape = {"$ref": "#/components/schemas/ErrorReply"}
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                if status not in ("200", "201", "202", "204") and path not in OTHER_ERRORS:
                    schema = answer["content"]["application/json"]["schema"]
                    assert schema["allOf"][0] == shape, (path, status)


def test_a_prompt_names_every_status_that_it_can_have() -> None:
    statuses = set(DOCUMENT["paths"]["/prompt"]["post"]["responses"])
    assert statuses == {
        "200", "202", "400", "406", "409", "410", "413", "415", "422", "429", "500", "501", "502",
        "503", "504", "507",
    }  # fmt: skip


def test_with_keys_every_route_but_the_probes_says_that_it_needs_one() -> None:
    document = described(needs_key=True)
    assert document["security"] == [{"Bearer": []}, {"ApiKeyAuth": []}]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            is_probe = path in ("/health", "/ready")
            assert (operation.get("security") == []) is is_probe
            assert ("401" in operation["responses"]) is not is_probe


async def test_the_server_is_named_relative_to_the_document(serve: Serve) -> None:
    site = await serve()
    for path, server in (("/openapi.json", "."), ("/docs/json", "..")):
        async with site.client.get(path) as response:
            assert response.content_type == "application/json"
            document = await response.json()
        assert document["servers"] == [{"url": server}]
        assert response.url.join(URL(server)).path == "/"
        paths = {path: said for path, said in DOCUMENT["paths"].items() if path != OWN_PATH}
        assert document["paths"] == paths


async def test_the_example_request_runs(serve: Serve) -> None:
    site = await serve()
    (example,) = DOCUMENT["components"]["schemas"]["PromptRequest"]["examples"]
    async with site.client.post("/prompt", json=example) as response:
        assert response.status == 200
        body = await response.json()
    OAS31Validator(resolved({"$ref": "#/components/schemas/PromptReply"})).validate(body)
