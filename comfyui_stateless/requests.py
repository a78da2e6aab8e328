"""The wire models of requests, and what turns bytes into them.

Field names are those of the contract; unknown top-level fields are ignored with a warning.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

from .errors import InvalidPrompt, RequestError
from .images import ConvertOutput, Options
from .naming import redacted
from .storage.auth import Auth, Credential
from .storage.azure import AzureTarget
from .storage.backends import Target
from .storage.http import HttpTarget
from .storage.huggingface import HfTarget
from .storage.s3 import S3Target
from .texts import cut_short
from .wire import from_json

log = logging.getLogger("comfyui_stateless.requests")

UPLOADS = ("azure_blob_upload", "hf_upload", "http_upload", "s3")
"""The fields that say where outputs go; a request has one of them at the most."""

SECRET_EXTRA_DATA = re.compile(r"key|token|secret|passw|credential|auth", re.IGNORECASE)
"""Names in ``extra_data`` whose values are secret: ComfyUI's own, and those that packs use."""

FOR_FILES = "extra_pnginfo"
"""What the caller wants in the metadata of files, in ``extra_data``: it is no secret."""

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

MAX_NODES = 10_000
"""Nodes of a graph: each is looked at several times, by us and by ComfyUI, on its event loop."""

MAX_CREDENTIALS = 256
"""Every URL of a request is held against each pattern."""

ECHOED = {"convert_output", "timeout_s", "priority", "webhook", "webhook_v2", *UPLOADS}
"""The fields of a prompt request that replies repeat."""


class WireModel(BaseModel):
    """A request body: frozen, strict about types, silent about unknown fields.

    Its validator is built by ``build_models``: ComfyUI's start would have to wait for it.
    """

    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", hide_input_in_errors=True, defer_build=True
    )


class JobRequest(WireModel):
    """What a request says of its job, whatever its graph comes from."""

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
    credentials: (
        Annotated[tuple[Credential, ...], Field(strict=False, max_length=MAX_CREDENTIALS)] | None
    ) = Field(
        default=None,
        description="For the URLs in the graph: the first pattern that fits a URL wins. "
        "Never echoed, logged or stored.",
    )
    webhook_v2: str | None = Field(
        default=None,
        min_length=1,
        description="Gets one message, `prompt.complete` or `prompt.failed`, signed where the "
        "operator has set a secret. The answer is 202.",
    )
    webhook: str | None = Field(
        default=None,
        min_length=1,
        description="Gets one message for each output. Ignored beside `webhook_v2`.",
        json_schema_extra={"deprecated": True},
    )
    s3: S3Target | None = Field(default=None, description="Upload the outputs to a bucket.")
    azure_blob_upload: AzureTarget | None = Field(
        default=None, description="Upload the outputs to a container of the operator's account."
    )
    hf_upload: HfTarget | None = Field(
        default=None, description="Commit the outputs to a repository of the Hub."
    )
    http_upload: HttpTarget | None = Field(
        default=None, description="PUT the outputs to URLs below a prefix."
    )
    extra_data: dict[str, Any] | None = Field(
        default=None,
        description="Handed to ComfyUI: `extra_pnginfo` (for the files' metadata), "
        "`api_key_comfy_org`, … Never echoed.",
    )

    @field_validator("extra_data")
    @classmethod
    def _pnginfo_has_keywords(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        texts = (value or {}).get(FOR_FILES) or {}
        if not isinstance(texts, dict):
            raise ValueError(f"{FOR_FILES} must be an object")  # noqa: TRY004 - pydantic's way
        if wrong := next((name for name in texts if not _is_latin_1(name)), None):
            raise ValueError(f"{FOR_FILES} has the keyword {wrong!a}, and PNG takes Latin-1 alone")
        return value

    @model_validator(mode="after")
    def _has_one_upload(self) -> JobRequest:
        if len(named := [name for name in UPLOADS if getattr(self, name) is not None]) > 1:
            raise ValueError(f"only one of {', '.join(named)} can be served at once")
        return self

    @property
    def target(self) -> Target | AzureTarget | None:
        """Where the outputs are uploaded to, None for nowhere."""
        return self.s3 or self.azure_blob_upload or self.hf_upload or self.http_upload

    @property
    def receiver(self) -> str | None:
        """The webhook that hears of the end, None for none."""
        return self.webhook_v2 or self.webhook

    @property
    def is_async(self) -> bool:
        """Whether the answer is 202, and the outputs go elsewhere."""
        return self.receiver is not None or (self.target is not None and self.target.is_async)

    @property
    def secret_extra_data(self) -> frozenset[str]:
        """The names at the top of ``extra_data`` that hold a secret, at whatever depth."""
        given = self.extra_data or {}
        return frozenset(name for name, value in given.items() if holds_secret(name, value))

    def echo(self) -> dict[str, Any]:
        """Return the fields that replies repeat: what the caller sent, without secrets."""
        if self.model_fields_set.isdisjoint(ECHOED):
            return {}
        said = self.model_dump(mode="json", exclude_unset=True, by_alias=True, include=ECHOED)
        for name in ("webhook", "webhook_v2"):
            if said.get(name):
                said[name] = redacted(said[name])
        if said.get("http_upload"):
            said["http_upload"]["url_prefix"] = redacted(said["http_upload"]["url_prefix"])
        return said


class PromptRequest(JobRequest):
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

    @property
    def source(self) -> str | None:
        """The endpoint that made the graph, as ``workflow/<path>``; None for a caller's own."""
        return None

    def placed(self, location: str) -> str:
        """Return where the caller said what is at a place in the graph."""
        return location


class InterruptRequest(WireModel):
    """The body of `POST /interrupt`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": "123e4567-e89b-12d3-a456-426614174000"}]}
    )

    id: str = Field(min_length=1, max_length=255, description="The id of the prompt to stop.")


class DownloadRequest(WireModel):
    """The body of `POST /download`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "url": "https://example.com/models/style.safetensors",
                    "model_type": "loras",
                    "wait": True,
                }
            ]
        }
    )

    url: str = Field(
        min_length=1, description="Where the model is: http(s), s3 or another storage."
    )
    model_type: str = Field(min_length=1, description="The model folder, such as `loras`.")
    filename: str | None = Field(
        default=None,
        min_length=1,
        description="Its path inside the folder. The last part of the URL's path when left out.",
    )
    wait: bool = Field(
        default=False, description="Answer 200 when the model is there, not 202 at once."
    )
    auth: Auth | None = Field(default=None, description="Credentials for the URL.")
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-fA-F]{64}$",
        description="What the file's content has to hash to, in hex.",
    )


Model = TypeVar("Model", bound=WireModel)


def build_models() -> None:
    """Build what validates requests; the first of each kind would have to wait for it."""
    for model in (PromptRequest, InterruptRequest, DownloadRequest, *get_args(Options)):
        model.model_rebuild()


def parse_json(body: bytes) -> dict[str, Any]:
    """Parse a request body.

    Raises:
        RequestError: The body is no JSON object.
    """
    try:
        value = from_json(body, _refuse_constant)
    except UnicodeDecodeError:
        raise RequestError("The body is not JSON: it is not UTF-8 text.") from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RequestError(f"The body is not JSON: {reason}.") from None
    if not isinstance(value, dict):
        raise RequestError("The body must be a JSON object.")
    if is_deeper(value, MAX_DEPTH):
        raise RequestError(f"The body is nested more than {MAX_DEPTH} levels deep.")
    return value


def parse_prompt(body: bytes) -> PromptRequest:
    """Turn the body of `POST /prompt` into its model.

    Raises:
        RequestError: Says which field is wrong and why.
    """
    fields = parse_json(body)
    request = validate(PromptRequest, fields)
    check_graph(request.prompt)
    warn_of_unknown(PromptRequest, fields)
    return request


def parse_interrupt(body: bytes) -> InterruptRequest:
    """Turn the body of `POST /interrupt` into its model.

    Raises:
        RequestError: Says which field is wrong and why.
    """
    return validate(InterruptRequest, parse_json(body))


def parse_download(body: bytes) -> DownloadRequest:
    """Turn the body of `POST /download` into its model.

    Raises:
        RequestError: Says which field is wrong and why.
    """
    return validate(DownloadRequest, parse_json(body))


def validate(model: type[Model], fields: Mapping[str, Any]) -> Model:
    """Validate ``fields`` as ``model``.

    Raises:
        RequestError: Says where and why; ``details.errors`` lists every error.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        errors = [
            {"location": _dotted(e["loc"]), "message": e["msg"].removeprefix("Value error, ")}
            for e in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        first = errors[0]
        raise RequestError(
            f"{first['location'] or 'body'}: {first['message']}.",
            location=first["location"] or None,
            details={"errors": errors},
        ) from None


def warn_of_unknown(model: type[WireModel], fields: Mapping[str, Any]) -> None:
    """Note in the log which ``fields`` a request's ``model`` does not have."""
    if unknown := sorted(set(fields) - set(model.model_fields)):
        log.warning("Ignoring unknown fields of a prompt request: %s", cut_short(ascii(unknown)))


def check_graph(graph: Mapping[str, Any]) -> None:
    """Check the shape of a graph, which ComfyUI's own validation takes for granted.

    Raises:
        InvalidPrompt: Names the node that is not a node, or says that there are too many.
    """
    if isinstance(graph.get("nodes"), list) and "links" in graph:
        raise InvalidPrompt(
            "This is a workflow in the UI format; export it with "
            '"Export (API)" and send that as prompt.',
            location="prompt",
        )
    if len(graph) > MAX_NODES:
        raise InvalidPrompt(f"A graph may have {MAX_NODES:,} nodes.", location="prompt")
    for node_id, node in graph.items():
        _check_node(f"prompt.{node_id}", node)


def _check_node(location: str, node: Any) -> None:
    if not isinstance(node, dict):
        raise InvalidPrompt("A node must be an object.", location=location)
    if not isinstance(node.get("class_type"), str):
        raise InvalidPrompt("A node needs a class_type.", location=f"{location}.class_type")
    if not isinstance(node.get("inputs"), dict):
        raise InvalidPrompt("A node needs inputs, an object.", location=f"{location}.inputs")


def is_deeper(value: Any, depth: int) -> bool:
    """Say whether JSON values are nested more than ``depth`` levels."""
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


def holds_secret(name: str, value: Any) -> bool:
    """Say whether an entry of ``extra_data`` is secret: by its own name, or by one inside it."""
    return name != FOR_FILES and (
        SECRET_EXTRA_DATA.search(name) is not None or _names_a_secret(value)
    )


def _is_latin_1(text: str) -> bool:
    return all(character <= "\xff" for character in text)


def _names_a_secret(value: Any) -> bool:
    if isinstance(value, list):
        return any(_names_a_secret(each) for each in value)
    if not isinstance(value, dict):
        return False
    return any(
        SECRET_EXTRA_DATA.search(str(name)) or _names_a_secret(each) for name, each in value.items()
    )
