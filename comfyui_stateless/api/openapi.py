"""The OpenAPI 3.1 document, made from the wire models and the tree of errors."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from .. import __version__
from ..errors import (
    ConversionError,
    ExecutionError,
    ExecutionInterrupted,
    ExecutionTimeout,
    InvalidPrompt,
    NoOutput,
    NotAcceptable,
    NotSupported,
    OutOfMemory,
    QueueFull,
    RequestError,
    StatelessError,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
    WorkerDied,
)
from ..requests import InterruptRequest, PromptRequest
from . import schemas

Schema = dict[str, Any]

REQUESTS = (PromptRequest, InterruptRequest)
REPLIES = (
    schemas.PromptReply,
    schemas.InterruptReply,
    schemas.InterruptRefusal,
    schemas.HealthReply,
    schemas.ReadyReply,
    schemas.ErrorReply,
)

PROMPT_ERRORS = (
    RequestError,
    InvalidPrompt,
    NoOutput,
    NotSupported,
    NotAcceptable,
    ExecutionInterrupted,
    TooLarge,
    UnsupportedMediaType,
    QueueFull,
    StatelessError,
    ExecutionError,
    OutOfMemory,
    WorkerDied,
    ConversionError,
    Unavailable,
    ExecutionTimeout,
)

MODELS_EXAMPLE = {"checkpoints": ["model.safetensors"], "loras": []}

_REF = "#/components/schemas/{model}"

_NOT_JSON = (
    "image/*",
    "video/*",
    "audio/*",
    "model/*",
    "application/octet-stream",
    "multipart/mixed",
    "application/zip",
)

_FORMS = """Runs a graph and answers with what its output nodes made.

`Accept` chooses the form of the answer:

| `Accept` | answer |
|---|---|
| `application/json`, `*/*`, none | JSON with every output in base64 |
| `image/*`, `video/*`, `audio/*`, `model/*`, one of their types, `application/octet-stream` | the bytes of the only output; 406 with the list where there are several, none, or one of another type |
| `multipart/mixed` | the JSON, then each output as a part of its own |
| `application/zip` | the JSON as `response.json`, and each output |

Quality values (`;q=`) are honoured. A client that hangs up cancels its job."""


def document(*, needs_key: bool) -> Schema:
    """Return the document but for its servers.

    Args:
        needs_key: Whether the API wants an API key.
    """
    components: Schema = {"schemas": _model_schemas()}
    content: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": "ComfyUI Stateless API",
            "version": __version__,
            "description": "Post a graph in ComfyUI's API format, get its outputs back.",
        },
        "tags": [
            {"name": "prompts", "description": "Running graphs."},
            {"name": "models", "description": "What is installed."},
            {"name": "probes", "description": "For orchestrators. They never need a key."},
            {"name": "documentation", "description": "This document."},
        ],
        "paths": _paths(needs_key),
        "components": components,
    }
    if needs_key:
        components["securitySchemes"] = {
            "Bearer": {"type": "http", "scheme": "bearer"},
            "ApiKeyAuth": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        content["security"] = [{"Bearer": []}, {"ApiKeyAuth": []}]
    return content


def _model_schemas() -> Schema:
    modes: list[tuple[type[BaseModel], Any]] = [(model, "validation") for model in REQUESTS]
    modes += [(model, "serialization") for model in REPLIES]
    _, definitions = models_json_schema(modes, ref_template=_REF)
    found: Schema = definitions["$defs"]
    return found


def _paths(needs_key: bool) -> Schema:
    def errors(*classes: type[StatelessError]) -> Schema:
        return _errors((*classes, Unauthorized) if needs_key else classes)

    body = (RequestError, TooLarge, UnsupportedMediaType)
    return {
        "/prompt": {"post": _prompt(errors(*PROMPT_ERRORS))},
        "/interrupt": {"post": _interrupt(errors(*body, StatelessError))},
        "/models": {"get": _models(errors(StatelessError))},
        "/health": {"get": _probe("health", schemas.HealthReply, 500)},
        "/ready": {"get": _probe("ready", schemas.ReadyReply, 503)},
        "/openapi.json": {"get": _own_document("openapi", errors())},
        "/docs/json": {"get": _own_document("docs_json", errors())},
        "/docs": {"get": _page(errors(Unavailable))},
    }


def _prompt(errors: Schema) -> Schema:
    forms: Schema = {"application/json": {"schema": _ref(schemas.PromptReply)}}
    forms |= {media_type: {} for media_type in _NOT_JSON}
    answer = {
        "description": "The outputs, in the form that `Accept` chose.",
        "headers": {
            "X-Prompt-Id": {
                "description": "The id, in a form that is safe in a header.",
                "schema": {"type": "string"},
            }
        },
        "content": forms,
    }
    return {
        "operationId": "prompt",
        "tags": ["prompts"],
        "summary": "Run a graph",
        "description": _FORMS,
        "requestBody": _body(PromptRequest),
        "responses": {"200": answer, **errors},
    }


def _interrupt(errors: Schema) -> Schema:
    refusal = _json("No live job has this id.", _ref(schemas.InterruptRefusal))
    return {
        "operationId": "interrupt",
        "tags": ["prompts"],
        "summary": "Stop a prompt",
        "description": "Stops every job of the id, whether it waits or runs, and no other.",
        "requestBody": _body(InterruptRequest),
        "responses": {
            "200": _json("Stopped.", _ref(schemas.InterruptReply)),
            "404": refusal,
            **errors,
        },
    }


def _models(errors: Schema) -> Schema:
    names = {"type": "array", "items": {"type": "string"}}
    listing = {"type": "object", "additionalProperties": names, "examples": [MODELS_EXAMPLE]}
    return {
        "operationId": "models",
        "tags": ["models"],
        "summary": "List models",
        "description": "The files of every model folder, as ComfyUI lists them now.",
        "responses": {"200": _json("File names by folder.", listing), **errors},
    }


def _probe(name: str, model: type[BaseModel], bad: int) -> Schema:
    return {
        "operationId": name,
        "tags": ["probes"],
        "summary": f"Probe: {name}",
        "security": [],
        "responses": {
            "200": _json("Yes.", _ref(model)),
            str(bad): _json("No; `reason` says why.", _ref(model)),
        },
    }


def _own_document(operation: str, errors: Schema) -> Schema:
    return {
        "operationId": operation,
        "tags": ["documentation"],
        "summary": "This document",
        "responses": {"200": _json("OpenAPI 3.1.", {"type": "object"}), **errors},
    }


def _page(errors: Schema) -> Schema:
    page = {"description": "HTML.", "content": {"text/html": {"schema": {"type": "string"}}}}
    return {
        "operationId": "docs",
        "tags": ["documentation"],
        "summary": "Swagger UI",
        "responses": {"200": page, **errors},
    }


def _errors(classes: Iterable[type[StatelessError]]) -> Schema:
    by_status: dict[int, list[type[StatelessError]]] = {}
    for cls in classes:
        by_status.setdefault(cls.status, []).append(cls)
    return {str(status): _error(status, by_status[status]) for status in sorted(by_status)}


def _error(status: int, classes: list[type[StatelessError]]) -> Schema:
    meanings = {cls.code: _meaning(cls) for cls in classes}
    listing = "".join(f"\n- `{code}`: {meaning}" for code, meaning in meanings.items())
    answer = _json(
        f"{HTTPStatus(status).phrase}. `code` is one of:\n{listing}", _error_schema(list(meanings))
    )
    example = classes[0](meanings[classes[0].code]).body()
    answer["content"]["application/json"]["example"] = example
    return answer


def _meaning(cls: type[StatelessError]) -> str:
    if cls is StatelessError:
        return "The server failed; its log says why."
    return inspect.getdoc(cls) or ""


def _error_schema(codes: list[str]) -> Schema:
    return {"allOf": [_ref(schemas.ErrorReply), {"properties": {"code": {"enum": codes}}}]}


def _body(model: type[BaseModel]) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": _ref(model)}}}


def _json(description: str, schema: Mapping[str, Any]) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
