"""The operations of the OpenAPI document that are about workflow endpoints."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from ..errors import (
    Forbidden,
    NotFound,
    Occupied,
    RequestError,
    StatelessError,
    TooLarge,
    UnsupportedMediaType,
)
from ..workflows.base import Description
from ..workflows.publishing import Publication
from ..workflows.requests import WorkflowRequest
from . import schemas
from .parts import EVENT_STREAM, KEY, PREVIEWS, REF, Schema, json_answer, ref, run_body
from .workflow_schemas import WorkflowRemoved, WorkflowReply, WorkflowsReply

_PATH: Schema = {
    "name": "path",
    "in": "path",
    "required": True,
    "description": "The endpoint's path, which may have slashes.",
    "schema": {"type": "string"},
    "example": "sdxl/text-to-image",
}

MAX_LISTED = 12
"""Options that a table's row lists at most; the schema has them all."""


def workflow_paths(errors: Callable[..., Schema], run_errors: Schema) -> Schema:
    """Return the paths of these operations, whatever endpoints there are.

    Args:
        errors: Gives the answers of errors by their classes.
        run_errors: Those of running a prompt.
    """
    changing = (RequestError, Forbidden, Occupied, TooLarge, StatelessError)
    return {
        "/workflow": {"get": _listing(errors(StatelessError))},
        "/workflow/{path}": {
            "post": _run_any(run_errors),
            "get": _describe(errors(NotFound, StatelessError)),
            "put": _publish(errors(*changing, UnsupportedMediaType)),
            "delete": _remove(errors(*changing, NotFound)),
        },
    }


def endpoint_paths(
    endpoints: Mapping[str, Description], run_errors: Schema, *, tables: bool
) -> tuple[Schema, Schema]:
    """Return an operation for each endpoint, and the schemas that they refer to.

    Args:
        endpoints: What is known of them, by path.
        tables: Whether descriptions end with a table of the inputs.
    """
    paths, components = {}, {}
    for number, (path, known) in enumerate(sorted(endpoints.items())):
        schema, own = _hoisted(known.schema, f"Workflow{number}")
        components.update(own)
        operation = _run_one(number, path, known, schema, run_errors, tables=tables)
        paths[f"/workflow/{quote(path)}"] = {"post": operation}
    return paths, components


def table(schema: Mapping[str, Any]) -> str:
    """Return the inputs of a schema as a table in Markdown."""
    rows = ["| Field | Type | Description | Default |", "|---|---|---|---|"]
    required = schema.get("required", ())
    for name, said in schema.get("properties", {}).items():
        default = "*required*" if name in required else _code(said.get("default", ""))
        cells = (f"`{name}`", _type(said, schema), str(said.get("description", "")), default)
        rows.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(rows)


def _run_one(
    number: int, path: str, known: Description, schema: Schema, errors: Schema, *, tables: bool
) -> Schema:
    given: Schema = {"properties": {"input": schema}, "required": ["input"]}
    whole = {"allOf": [ref(WorkflowRequest), given]}
    example = None if known.example is None else {"input": known.example}
    description = known.description or ""
    if tables and known.schema.get("properties"):
        description = f"{description}\n\n{table(known.schema)}".strip()
    return {
        "operationId": f"workflow_{number}_{re.sub(r'[^A-Za-z0-9]+', '_', path)}",
        "tags": ["workflows"],
        "summary": known.summary or path,
        "description": description,
        "parameters": [KEY, PREVIEWS],
        "requestBody": run_body(whole, example),
        "responses": _answers(errors),
    }


def _run_any(errors: Schema) -> Schema:
    return {
        "operationId": "workflow",
        "tags": ["workflows"],
        "summary": "Run a workflow",
        "description": "Runs the graph that an endpoint makes of its `input`. Takes every field "
        "of `POST /prompt` beside it, forms with files too, and answers in the same ways. "
        "`GET /workflow` lists the endpoints.",
        "parameters": [_PATH, KEY, PREVIEWS],
        "requestBody": run_body(ref(WorkflowRequest)),
        "responses": _answers(errors),
    }


def _answers(errors: Schema) -> Schema:
    said: Schema = {
        "properties": {"input": {"type": "object", "description": "With all defaults."}}
    }
    forms: Schema = {"application/json": {"schema": {"allOf": [ref(schemas.PromptReply), said]}}}
    forms |= {"application/octet-stream": {}} | EVENT_STREAM
    accepted: Schema = {"allOf": [ref(schemas.AcceptedReply), said]}
    return {
        "200": {"description": "The outputs, in the form that `Accept` chose.", "content": forms},
        "202": json_answer("Accepted; it goes on.", accepted),
        **errors,
    }


def _listing(errors: Schema) -> Schema:
    return {
        "operationId": "workflows",
        "tags": ["workflows"],
        "summary": "List workflows",
        "responses": {
            "200": json_answer("The endpoints, and files that are wrong.", ref(WorkflowsReply)),
            **errors,
        },
    }


def _describe(errors: Schema) -> Schema:
    return {
        "operationId": "describe_workflow",
        "tags": ["workflows"],
        "summary": "Describe a workflow",
        "parameters": [_PATH],
        "responses": {"200": json_answer("What is known.", ref(WorkflowReply)), **errors},
    }


def _publish(errors: Schema) -> Schema:
    body = _body(ref(Publication))
    return {
        "operationId": "publish_workflow",
        "tags": ["workflows"],
        "summary": "Save a workflow",
        "description": "Checks a graph with its inputs and saves both as files in WORKFLOW_DIR, "
        "where ALLOW_PUBLISH lets clients do so. Files with code are never replaced.",
        "parameters": [_PATH],
        "requestBody": body,
        "responses": {
            "200": json_answer("Replaced.", ref(WorkflowReply)),
            "201": json_answer("New.", ref(WorkflowReply)),
            **errors,
        },
    }


def _remove(errors: Schema) -> Schema:
    return {
        "operationId": "remove_workflow",
        "tags": ["workflows"],
        "summary": "Remove a workflow",
        "description": "Removes a graph's files from WORKFLOW_DIR, where ALLOW_PUBLISH is set.",
        "parameters": [_PATH],
        "responses": {"200": json_answer("It is gone.", ref(WorkflowRemoved)), **errors},
    }


def _body(schema: Mapping[str, Any]) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _hoisted(schema: Mapping[str, Any], name: str) -> tuple[Schema, Schema]:
    """Return a reference to a schema that is a component of the document, and the component.

    What refers to parts of the schema finds them there.
    """
    place = REF.format(model=name)

    def moved(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: _target(key, item, place) or moved(item) for key, item in value.items()}
        return [moved(item) for item in value] if isinstance(value, (list, tuple)) else value

    plain = {key: value for key, value in schema.items() if key not in ("$schema", "$id")}
    return {"$ref": place}, {name: moved(plain)}


def _target(key: str, value: Any, place: str) -> str | None:
    is_local = key == "$ref" and isinstance(value, str) and value.startswith("#")
    return f"{place}{value[1:]}" if is_local else None


def _type(said: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """Return what kind of value a schema stands for, with its limits, in a few words."""
    if name := str(said.get("$ref", "")).removeprefix("#/$defs/"):
        return _type(root.get("$defs", {}).get(name, {}), {})
    if options := said.get("enum"):
        return _options(options)
    for several in ("anyOf", "oneOf"):
        if several in said:
            return " or ".join(dict.fromkeys(_type(each, root) for each in said[several]))
    kind = said.get("type", "any")
    kinds = kind if isinstance(kind, str) else " or ".join(kind)
    return f"{kinds}{_limits(said)}"


def _options(options: Iterable[Any]) -> str:
    shown = [_code(option) for option in options]
    more = f", … ({len(shown)} in all)" if len(shown) > MAX_LISTED else ""
    return ", ".join(shown[:MAX_LISTED]) + more


def _limits(said: Mapping[str, Any]) -> str:
    low = said.get("minimum", said.get("exclusiveMinimum"))
    high = said.get("maximum", said.get("exclusiveMaximum"))
    if low is not None and high is not None:
        return f", {low} to {high}"
    if low is not None:
        return f", from {low}"
    return "" if high is None else f", up to {high}"


def _code(value: Any) -> str:
    return "" if value == "" else f"`{value}`"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
