"""Parts that the OpenAPI document is put together from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

REF = "#/components/schemas/{model}"

EVENT_STREAM: Schema = {"text/event-stream": {"schema": {"type": "string"}}}


def json_answer(description: str, schema: Mapping[str, Any]) -> Schema:
    """Return a response with a JSON body."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def ref(model: type[BaseModel]) -> dict[str, str]:
    """Return the reference to a model's schema."""
    return {"$ref": REF.format(model=model.__name__)}
