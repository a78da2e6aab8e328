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
    Crashed,
    DeliveryFailed,
    ExecutionError,
    ExecutionInterrupted,
    ExecutionTimeout,
    FolderFailed,
    Gone,
    InvalidInput,
    InvalidPrompt,
    KeyReused,
    MissingDependency,
    NoOutput,
    NoSpace,
    NotAcceptable,
    NotFound,
    OutOfDescriptors,
    OutOfMemory,
    QueueFull,
    RequestError,
    StatelessError,
    StorageError,
    Superseded,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
    WorkerDied,
    WorkflowFailed,
)
from ..requests import DownloadRequest, InterruptRequest, PromptRequest
from ..workflows.base import Description
from ..workflows.publishing import Publication
from ..workflows.requests import WorkflowRequest
from . import board_schemas, schemas, workflow_schemas
from .board_operations import board_paths
from .parts import EVENT_STREAM as _EVENT_STREAM
from .parts import KEY as _KEY
from .parts import PREVIEWS as _PREVIEWS
from .parts import REF as _REF
from .parts import Schema
from .parts import json_answer as _json
from .parts import ref as _ref
from .parts import run_body as _run_body
from .workflow_operations import endpoint_paths, workflow_paths

REQUESTS = (PromptRequest, WorkflowRequest, InterruptRequest, DownloadRequest, Publication)
REPLIES = (
    schemas.PromptReply,
    schemas.AcceptedReply,
    schemas.StatusReply,
    schemas.InterruptReply,
    schemas.InterruptRefusal,
    schemas.ValidateReply,
    schemas.DownloadStarted,
    schemas.DownloadCompleted,
    schemas.DownloadsReply,
    schemas.HealthReply,
    schemas.ReadyReply,
    schemas.ErrorReply,
    *board_schemas.REPLIES,
    *workflow_schemas.REPLIES,
)

SERVERS_OWN = (OutOfDescriptors, FolderFailed, NoSpace)
"""What keeps the server, whatever the request says, from having a file."""

PROMPT_ERRORS = (
    RequestError,
    InvalidPrompt,
    NoOutput,
    InvalidInput,
    NotAcceptable,
    ExecutionInterrupted,
    Superseded,
    Gone,
    TooLarge,
    UnsupportedMediaType,
    KeyReused,
    QueueFull,
    StatelessError,
    ExecutionError,
    OutOfMemory,
    WorkerDied,
    Crashed,
    ConversionError,
    MissingDependency,
    StorageError,
    DeliveryFailed,
    Unavailable,
    ExecutionTimeout,
    *SERVERS_OWN,
)

RUN_ERRORS = (*PROMPT_ERRORS, NotFound, WorkflowFailed)

MODELS_EXAMPLE = {"checkpoints": ["model.safetensors"], "loras": []}

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
| `text/event-stream` | what happens to the job, as it happens, and the JSON in the last event |

With a webhook, or an upload that is not waited for, the answer is 202 as soon as the job is checked
and recorded. An `Idempotency-Key` makes it safe to send a request again.

Inputs of any node that name files may be URLs, `data:` URLs or base64; models may be URLs. A form
(`multipart/form-data`) has the JSON in its part `request`, and files that inputs name as
`upload://<part>`.

Quality values (`;q=`) are honoured. A client that hangs up cancels its job."""


_EVENTS = """What happens to the newest job of the id, as server-sent events:

| event | data |
|---|---|
| `queued` | `position` |
| `preparing` | `location`, `url`, `bytes` and `total` of a file that is fetched |
| `started` | |
| `node` | `node_id`, `class_type`, `cached` |
| `progress` | `node` (and `node_id`), `value`, `max`, and `overall` from 0 to 1 |
| `preview` | `node_id`, `media_type`, `image` in base64; only with `previews=true` |
| `output` | an output, as in `outputs` of the reply |
| `succeeded` | the JSON of the reply |
| `failed` | the error |

One of the last two ends the stream. A comment comes every 15 s at least. A client that names the
last event that it got in `Last-Event-ID` gets those that came after it."""

_ID: Schema = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "example": schemas.EXAMPLE_ID,
}

_LAST_EVENT_ID: Schema = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The `id` of the last event that came.",
    "schema": {"type": "string"},
}


def document(
    endpoints: Mapping[str, Description], *, needs_key: bool, tables: bool = True
) -> Schema:
    """Return the document but for its servers.

    Args:
        endpoints: The workflow endpoints that there are, by path.
        needs_key: Whether the API wants an API key.
        tables: Whether the descriptions of endpoints end with a table of their inputs.
    """
    run_errors = _errors((*RUN_ERRORS, Unauthorized) if needs_key else RUN_ERRORS)
    own_paths, own_schemas = endpoint_paths(endpoints, run_errors, tables=tables)
    components: Schema = {"schemas": {**_model_schemas(), **own_schemas}}
    content: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": "ComfyUI Stateless API",
            "version": __version__,
            "description": "Post a graph in ComfyUI's API format, get its outputs back.",
        },
        "tags": [
            {"name": "prompts", "description": "Running graphs."},
            {"name": "workflows", "description": "Graphs behind named inputs."},
            {"name": "models", "description": "What is installed."},
            {"name": "operation", "description": "For those who run the server."},
            {"name": "probes", "description": "For orchestrators. They never need a key."},
            {"name": "documentation", "description": "This document."},
        ],
        "paths": {**_paths(needs_key), **own_paths},
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
        "/prompt/{id}": {
            "get": _status(errors(NotFound, Gone, StatelessError, StorageError, Unavailable))
        },
        "/prompt/{id}/events": {
            "get": _events(
                errors(RequestError, NotFound, StatelessError, StorageError, Unavailable)
            )
        },
        **workflow_paths(errors, errors(*RUN_ERRORS)),
        "/interrupt": {"post": _interrupt(errors(*body, StatelessError))},
        "/validate": {"post": _validate(errors(*body, InvalidPrompt, StatelessError, Unavailable))},
        "/download": {
            "get": _downloads(errors(StatelessError)),
            "post": _download(
                errors(*body, InvalidInput, StatelessError, Unavailable, *SERVERS_OWN)
            ),
        },
        "/models": {"get": _models(errors(StatelessError))},
        **board_paths(errors),
        "/metrics": {"get": _metrics(errors(StatelessError, MissingDependency))},
        "/health": {"get": _probe("health", schemas.HealthReply, 500)},
        "/ready": {"get": _probe("ready", schemas.ReadyReply, 503)},
        "/openapi.json": {"get": _own_document("openapi", errors())},
        "/docs/json": {"get": _own_document("docs_json", errors())},
        "/docs": {"get": _page(errors(Unavailable))},
    }


def _prompt(errors: Schema) -> Schema:
    forms: Schema = {"application/json": {"schema": _ref(schemas.PromptReply)}}
    forms |= {media_type: {} for media_type in _NOT_JSON}
    forms |= _EVENT_STREAM
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
        "parameters": [_KEY, _PREVIEWS],
        "requestBody": _prompt_body(),
        "responses": {
            "200": answer,
            "202": _json("Accepted; it goes on.", _ref(schemas.AcceptedReply)),
            **errors,
        },
    }


def _status(errors: Schema) -> Schema:
    return {
        "operationId": "status",
        "tags": ["prompts"],
        "summary": "Tell the state of a prompt",
        "description": "Of the newest job of the id, while it lives and for RESULT_TTL_S after.",
        "parameters": [_ID],
        "responses": {"200": _json("What is known.", _ref(schemas.StatusReply)), **errors},
    }


def _events(errors: Schema) -> Schema:
    return {
        "operationId": "events",
        "tags": ["prompts"],
        "summary": "Follow a prompt",
        "description": _EVENTS,
        "parameters": [_ID, _PREVIEWS, _LAST_EVENT_ID],
        "responses": {
            "200": {"description": "The stream.", "content": _EVENT_STREAM},
            "204": {"description": "Last-Event-ID is that of the last event."},
            **errors,
        },
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


def _validate(errors: Schema) -> Schema:
    return {
        "operationId": "validate",
        "tags": ["prompts"],
        "summary": "Examine a prompt",
        "description": "Says what would happen to a prompt: nodes and models that are missing, "
        "what would be downloaded, and what ComfyUI's validation finds. Runs and keeps nothing.",
        "requestBody": _prompt_body(),
        "responses": {"200": _json("The findings.", _ref(schemas.ValidateReply)), **errors},
    }


def _download(errors: Schema) -> Schema:
    return {
        "operationId": "download",
        "tags": ["models"],
        "summary": "Fetch a model",
        "description": "Fetches a model into a model folder of ComfyUI's, through the same cache "
        "as the models that prompts name.",
        "requestBody": _body(DownloadRequest),
        "responses": {
            "200": _json("It is there (`wait`).", _ref(schemas.DownloadCompleted)),
            "202": _json("It has begun.", _ref(schemas.DownloadStarted)),
            **errors,
        },
    }


def _downloads(errors: Schema) -> Schema:
    return {
        "operationId": "downloads",
        "tags": ["models"],
        "summary": "List downloads",
        "description": "What is being downloaded now, by prompts too.",
        "responses": {"200": _json("Downloads.", _ref(schemas.DownloadsReply)), **errors},
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


def _metrics(errors: Schema) -> Schema:
    text: Schema = {"schema": {"type": "string"}}
    forms = {"text/plain": text, "application/openmetrics-text": text}
    return {
        "operationId": "metrics",
        "tags": ["operation"],
        "summary": "Metrics",
        "description": "For Prometheus: jobs, queue, stages, nodes, cache, webhooks, GPU memory, "
        "the event loop. OpenMetrics where `Accept` asks for it.",
        "responses": {"200": {"description": "The numbers.", "content": forms}, **errors},
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


def _prompt_body() -> Schema:
    return _run_body(_ref(PromptRequest))
