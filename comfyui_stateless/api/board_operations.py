"""The operations of the OpenAPI document that are about all jobs and the server."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import NotFound, RequestError, StatelessError
from . import schemas
from .board_schemas import JobsReply, ServerStatus
from .parts import EVENT_STREAM, Schema, json_answer, ref

_EVENTS = """All jobs and the server, as server-sent events, for as long as the client listens:

| event | data |
|---|---|
| `snapshot` | `jobs`, as `GET /jobs` lists them, and `status`, as `GET /status` tells it; replaces all that came before |
| `job` | a job that is new or that changed: as in the list |
| `removed` | `run` of a job that is listed no more |
| `status` | the server's state, when it changed |

The first event is a snapshot. A job is told at most ten times a second, its position once a second
where nothing else of it changed; a slow reader gets the latest, not all that came before. A
comment comes every 15 s at least. A client that comes back begins with a new snapshot."""

_RUN: Schema = {
    "name": "run",
    "in": "path",
    "required": True,
    "description": "The job's own key, from the list.",
    "schema": {"type": "string"},
    "example": "9f1c2f3e-5d0c-4d7a-9c52-2f6f0a6f1e11",
}

_LIMIT: Schema = {
    "name": "limit",
    "in": "query",
    "description": "How many at most. Those that run and run next stay.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 500, "default": 500},
}


def board_paths(errors: Callable[..., Schema]) -> Schema:
    """Return the paths of these operations.

    Args:
        errors: Gives the answers of errors by their classes.
    """
    return {
        "/jobs": {"get": _jobs(errors(RequestError, StatelessError))},
        "/jobs/{run}/thumbnail": {"get": _thumbnail(errors(NotFound, StatelessError))},
        "/jobs/{run}/interrupt": {"post": _interrupt(errors(StatelessError))},
        "/events": {"get": _follow(errors(StatelessError))},
        "/status": {"get": _status(errors(StatelessError))},
    }


def _jobs(errors: Schema) -> Schema:
    return {
        "operationId": "jobs",
        "tags": ["operation"],
        "summary": "List jobs",
        "description": "What runs and waits now, and the last 200 that ended while this process "
        "ran, newest first.",
        "parameters": [_LIMIT],
        "responses": {"200": json_answer("The jobs.", ref(JobsReply)), **errors},
    }


def _thumbnail(errors: Schema) -> Schema:
    picture = {"image/jpeg": {"schema": {"type": "string", "contentMediaType": "image/jpeg"}}}
    return {
        "operationId": "thumbnail",
        "tags": ["operation"],
        "summary": "Show a job's thumbnail",
        "description": "A small picture of a job's first output; its longer side has at most 128 "
        "pixels. Where many jobs end at once, or RESULT_TTL_S is 0, not every job has one.",
        "parameters": [_RUN],
        "responses": {"200": {"description": "A JPEG.", "content": picture}, **errors},
    }


def _interrupt(errors: Schema) -> Schema:
    refusal = json_answer("It does not live.", ref(schemas.InterruptRefusal))
    return {
        "operationId": "interrupt_run",
        "tags": ["operation"],
        "summary": "Stop one job",
        "description": "Stops the job with this key, where several have the same id.",
        "parameters": [_RUN],
        "responses": {
            "200": json_answer("Stopped.", ref(schemas.InterruptReply)),
            "404": refusal,
            **errors,
        },
    }


def _follow(errors: Schema) -> Schema:
    return {
        "operationId": "follow",
        "tags": ["operation"],
        "summary": "Follow all jobs",
        "description": _EVENTS,
        "responses": {"200": {"description": "The stream.", "content": EVENT_STREAM}, **errors},
    }


def _status(errors: Schema) -> Schema:
    return {
        "operationId": "server_status",
        "tags": ["operation"],
        "summary": "Tell how the server is",
        "responses": {"200": json_answer("Its state.", ref(ServerStatus)), **errors},
    }
