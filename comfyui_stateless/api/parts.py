"""Parts that the OpenAPI document is put together from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

REF = "#/components/schemas/{model}"

EVENT_STREAM: Schema = {"text/event-stream": {}}
"""OpenAPI 3.1 cannot describe the events of a stream; the descriptions of the operations do."""

PREVIEWS: Schema = {
    "name": "previews",
    "in": "query",
    "description": "Whether an event stream has the pictures that ComfyUI makes on the way.",
    "schema": {"type": "boolean", "default": False},
}

KEY: Schema = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key with the same body joins the first run and gets its answer.",
    "schema": {"type": "string", "maxLength": 255},
}


def json_answer(description: str, schema: Mapping[str, Any]) -> Schema:
    """Return a response with a JSON body."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def ref(model: type[BaseModel]) -> dict[str, str]:
    """Return the reference to a model's schema."""
    return {"$ref": REF.format(model=model.__name__)}


def run_body(schema: Mapping[str, Any], example: Any = None) -> Schema:
    """Return the body of a request that runs something: JSON, or a form with files beside it.

    Args:
        schema: Of the JSON.
        example: Of the same, None for none.
    """
    form = {
        "type": "object",
        "required": ["request"],
        "properties": {"request": schema},
        "additionalProperties": {"type": "string", "contentMediaType": "application/octet-stream"},
    }
    shown = {} if example is None else {"example": example}
    content = {
        "application/json": {"schema": schema, **shown},
        "multipart/form-data": {
            "schema": form,
            "encoding": {"request": {"contentType": "application/json"}},
        },
    }
    return {"required": True, "content": content}
