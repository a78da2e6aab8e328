"""The wire models of requests, and what turns bytes into them.

Field names are those of the contract; unknown top-level fields are ignored with a warning.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError, field_validator

from .errors import InvalidPrompt, NotSupported, RequestError
from .images import ConvertOutput

log = logging.getLogger("comfyui_stateless.requests")

NOT_SERVED_YET = (
    "azure_blob_upload",
    "credentials",
    "hf_upload",
    "http_upload",
    "s3",
    "webhook",
    "webhook_v2",
)
"""Fields of the contract that change what happens to outputs or inputs, and are not built yet.

They are refused, not ignored: a caller who sends one must not believe that it was honoured."""

EXAMPLE_GRAPH: dict[str, Any] = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 16744448},
    },
    "2": {
        "class_type": "SaveImage",
        "inputs": {"images": ["1", 0], "filename_prefix": "example"},
    },
}


MAX_DEPTH = 100
"""Levels that a body may nest: ComfyUI copies prompts recursively, and at some 400 levels that
ends its worker thread."""


class WireModel(BaseModel):
    """A request body: frozen, strict about types, silent about unknown fields."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class PromptRequest(WireModel):
    """The body of `POST /prompt`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": EXAMPLE_GRAPH}]},
        title="PromptRequest",
    )

    prompt: dict[str, Any] = Field(
        description="The graph in ComfyUI's API format: node id to "
        "`{class_type, inputs, _meta?}`. It needs at least one output node.",
        min_length=1,
        json_schema_extra={
            "additionalProperties": {
                "type": "object",
                "required": ["class_type", "inputs"],
                "properties": {
                    "class_type": {"type": "string"},
                    "inputs": {"type": "object", "additionalProperties": True},
                    "_meta": {},
                },
            }
        },
    )
    id: str = Field(
        default_factory=lambda: str(uuid.uuid4()),
        min_length=1,
        max_length=255,
        description="Your own id for this prompt, echoed as it came. "
        "It need not be unique. A UUID when left out.",
    )
    convert_output: ConvertOutput | None = Field(
        default=None, description="The image format to return, and its options. PNG when left out."
    )
    timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Seconds that the whole job may take. After that it is stopped and the "
        "answer is 504 `timeout`.",
    )
    priority: StrictInt = Field(
        default=0, description="Higher runs earlier; equal priorities keep their order."
    )
    extra_data: dict[str, Any] | None = Field(
        default=None,
        description="Handed to ComfyUI: `extra_pnginfo` (for the files' metadata), "
        "`api_key_comfy_org`, … Never echoed.",
    )

    @field_validator("extra_data")
    @classmethod
    def _pnginfo_is_an_object(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value and not isinstance(value.get("extra_pnginfo") or {}, dict):
            raise ValueError("extra_pnginfo must be an object")
        return value

    def echo(self) -> dict[str, Any]:
        """Return the fields that replies repeat: what the caller sent, without secrets."""
        return self.model_dump(
            mode="json", exclude_unset=True, exclude={"id", "prompt", "extra_data"}
        )


class InterruptRequest(WireModel):
    """The body of `POST /interrupt`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": "123e4567-e89b-12d3-a456-426614174000"}]}
    )

    id: str = Field(min_length=1, max_length=255, description="The id of the prompt to stop.")


Model = TypeVar("Model", bound=WireModel)


def parse_json(body: bytes) -> dict[str, Any]:
    """Parse a request body.

    Raises:
        RequestError: The body is no JSON object.
    """
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise RequestError("The body is not JSON: it is not UTF-8 text.") from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RequestError(f"The body is not JSON: {reason}.") from None
    if not isinstance(value, dict):
        raise RequestError("The body must be a JSON object.")
    if _is_deeper(value, MAX_DEPTH):
        raise RequestError(f"The body is nested more than {MAX_DEPTH} levels deep.")
    return value


def parse_prompt(body: bytes) -> PromptRequest:
    """Turn the body of `POST /prompt` into its model.

    Raises:
        RequestError: Says which field is wrong and why.
    """
    fields = parse_json(body)
    refuse_fields_not_served(fields)
    request = validate(PromptRequest, fields)
    check_graph(request.prompt)
    if unknown := sorted(set(fields) - set(PromptRequest.model_fields)):
        log.warning("Ignoring unknown fields of a prompt request: %s", ascii(unknown))
    return request


def parse_interrupt(body: bytes) -> InterruptRequest:
    """Turn the body of `POST /interrupt` into its model.

    Raises:
        RequestError: Says which field is wrong and why.
    """
    return validate(InterruptRequest, parse_json(body))


def refuse_fields_not_served(fields: Mapping[str, Any]) -> None:
    """Refuse the fields that this version would have to ignore.

    Raises:
        NotSupported: Names the first of them.
    """
    for name in NOT_SERVED_YET:
        if fields.get(name) is not None:
            raise NotSupported(f"This version does not serve {name} yet.", location=name)


def validate(model: type[Model], fields: Mapping[str, Any]) -> Model:
    """Validate ``fields`` as ``model``.

    Raises:
        RequestError: Says where and why; ``details.errors`` lists every error.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        errors = [
            {"location": _dotted(e["loc"]), "message": e["msg"]}
            for e in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        first = errors[0]
        raise RequestError(
            f"{first['location'] or 'body'}: {first['message']}.",
            location=first["location"] or None,
            details={"errors": errors},
        ) from None


def check_graph(graph: Mapping[str, Any]) -> None:
    """Check the shape of a graph, which ComfyUI's own validation takes for granted.

    Raises:
        InvalidPrompt: Names the node that is not a node.
    """
    if isinstance(graph.get("nodes"), list) and "links" in graph:
        raise InvalidPrompt(
            "This is a workflow in the UI format; export it with "
            '"Export (API)" and send that as prompt.',
            location="prompt",
        )
    for node_id, node in graph.items():
        _check_node(f"prompt.{node_id}", node)


def _check_node(location: str, node: Any) -> None:
    if not isinstance(node, dict):
        raise InvalidPrompt("A node must be an object.", location=location)
    if not isinstance(node.get("class_type"), str):
        raise InvalidPrompt("A node needs a class_type.", location=f"{location}.class_type")
    if not isinstance(node.get("inputs"), dict):
        raise InvalidPrompt("A node needs inputs, an object.", location=f"{location}.inputs")


def _is_deeper(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [child for item in level for child in _children(item)]
        if not level:
            return False
    return True


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _dotted(location: Iterable[int | str]) -> str:
    return ".".join(str(part) for part in location)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
