"""The wire models of replies, for the documentation; tests hold real replies against them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..requests import EXAMPLE_GRAPH

ONE_PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP438AAAAP+AX+8OCQXAAAAAElFTkSuQmCC"
)

EXAMPLE_ID = "123e4567-e89b-12d3-a456-426614174000"

_NAMED_GRAPH = {
    **EXAMPLE_GRAPH,
    "2": {
        **EXAMPLE_GRAPH["2"],
        "inputs": {**EXAMPLE_GRAPH["2"]["inputs"], "filename_prefix": f"{EXAMPLE_ID}_example"},
    },
}

_TIMES = {"start": 1764000000000, "end": 1764000000021, "duration": 21}

EXAMPLE_REPLY: dict[str, Any] = {
    "id": EXAMPLE_ID,
    "prompt": _NAMED_GRAPH,
    "images": [ONE_PIXEL],
    "filenames": [f"{EXAMPLE_ID}_example_00001_.png"],
    "outputs": [
        {
            "node_id": "2",
            "filename": f"{EXAMPLE_ID}_example_00001_.png",
            "type": "image",
            "media_type": "image/png",
            "size_bytes": 69,
            "width": 1,
            "height": 1,
        }
    ],
    "texts": [],
    "stats": {
        "comfy_execution": {
            "total": _TIMES,
            **_TIMES,
            "nodes": {
                "1": {"start": 1764000000002, "end": 1764000000003, "cached": False},
                "2": {"start": 1764000000004, "end": 1764000000020, "cached": False},
            },
        },
        "queue_time": 1,
        "preprocess_time": 2,
        "comfy_round_trip_time": 24,
        "postprocess_time": 3,
        "upload_time": 0,
        "total_time": 30,
    },
}


class ReplyModel(BaseModel):
    """A reply's body."""

    model_config = ConfigDict(extra="forbid", strict=True)


class NodeTimes(ReplyModel):
    """When a node ran, in Unix milliseconds."""

    start: int
    end: int
    cached: bool = Field(description="Whether its result came from ComfyUI's cache.")


class Span(ReplyModel):
    """From when to when, in Unix milliseconds, and how long, in milliseconds."""

    start: int
    end: int
    duration: int


class ComfyExecution(Span):
    """ComfyUI's own part; `total` repeats the other three."""

    total: Span
    nodes: dict[str, NodeTimes] = Field(description="By node id.")


class Stats(ReplyModel):
    """How long each stage took, in milliseconds."""

    comfy_execution: ComfyExecution
    queue_time: int
    preprocess_time: int
    comfy_round_trip_time: int
    postprocess_time: int
    upload_time: int
    total_time: int


class Output(ReplyModel):
    """One output file."""

    node_id: str
    filename: str = Field(description="With its subfolder; unique in the reply.")
    type: Literal["image", "video", "audio", "model", "text", "file"]
    media_type: str
    size_bytes: int
    width: int | None = Field(None, description="Pixels; images only.")
    height: int | None = Field(None, description="Pixels; images only.")


class NodeText(ReplyModel):
    """A text that an output node showed."""

    node_id: str
    text: str


class PromptReply(ReplyModel):
    """The outputs of a prompt. `images`, `filenames` and `outputs` run parallel.

    Fields of the request that are not listed here, such as `convert_output`, are repeated as
    they came; secrets and `extra_data` are not.
    """

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [EXAMPLE_REPLY]})

    id: str
    prompt: dict[str, Any] = Field(
        description="The graph as it ran: with the names that its outputs got."
    )
    images: list[str] = Field(
        description="Every output file, of whatever type, in base64, or its URL where it was "
        "uploaded. In a multipart reply the `cid:` URL of its part, in a ZIP archive the name of "
        "its entry."
    )
    filenames: list[str]
    outputs: list[Output]
    texts: list[NodeText]
    stats: Stats


class ErrorReply(ReplyModel):
    """The one shape of errors."""

    error: str = Field(description="A sentence that a person can act on.")
    code: str = Field(description="What happened, for programs.")
    location: str | None = Field(
        None,
        description="Where in the request, such as `prompt.3.inputs.seed`; left out where "
        "nothing can be named.",
    )
    details: dict[str, Any]


class AcceptedReply(ReplyModel):
    """What is sent before an asynchronous job has run; it is recorded, and outlives a crash.

    Fields of the request are repeated as in the reply to a prompt.
    """

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "id": EXAMPLE_ID,
                    "status": "ok",
                    "prompt": _NAMED_GRAPH,
                    "webhook_v2": "https://example.com/done",
                }
            ]
        },
    )

    id: str
    status: Literal["ok"]
    prompt: dict[str, Any] = Field(description="The graph as it is going to run.")


class StatusReply(ReplyModel):
    """What is known of a job; a job that has succeeded has all that its reply had."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [{"id": EXAMPLE_ID, "state": "queued", "progress": 0.0, "position": 3}]
        },
    )

    id: str
    state: Literal[
        "preparing", "queued", "running", "delivering", "succeeded", "failed", "interrupted"
    ]
    progress: float | None = Field(None, description="Of all its nodes, from 0 to 1.")
    position: int | None = Field(
        None, description="How many jobs are before it; only while it is queued."
    )
    node_id: str | None = Field(None, description="The node that runs.")
    error: ErrorReply | None = Field(None, description="Why it failed.")


class InterruptReply(ReplyModel):
    """What became of an interrupt."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": EXAMPLE_ID, "interrupted": "success"}]}
    )

    id: str
    interrupted: Literal["success"]


class InterruptRefusal(ReplyModel):
    """No live job has the id."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": EXAMPLE_ID, "interrupted": "failed"}]}
    )

    id: str
    interrupted: Literal["failed"]


class HealthReply(ReplyModel):
    """What the liveness probe answers."""

    version: str
    status: Literal["healthy", "not healthy"]
    reason: str | None = Field(None, description="Why; left out when all is well.")


class ReadyReply(ReplyModel):
    """What the readiness probe answers."""

    version: str
    status: Literal["ready", "not ready"]
    reason: str | None = Field(None, description="Why; left out when all is well.")


class MissingNode(ReplyModel):
    """A node whose class is not installed."""

    node_id: str
    class_type: str


class MissingModel(ReplyModel):
    """A model that the graph names and that is not in its folder."""

    location: str = Field(description="The input that names it.")
    folder: str
    name: str


class Fetch(ReplyModel):
    """Something that would be fetched."""

    location: str = Field(description="The input that names it.")
    url: str = Field(description="Without what may be secret.")
    folder: str | None = Field(description="The model folder; null for media.")
    size_bytes: int | None = Field(description="null where the origin does not say.")
    cached: bool


class ValidateReply(ReplyModel):
    """What would happen to a prompt."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "valid": False,
                    "errors": [],
                    "node_errors": {},
                    "missing_nodes": [],
                    "missing_models": [
                        {
                            "location": "prompt.4.inputs.ckpt_name",
                            "folder": "checkpoints",
                            "name": "gone.safetensors",
                        }
                    ],
                    "downloads": [
                        {
                            "location": "prompt.5.inputs.lora_name",
                            "url": "https://example.com/style.safetensors",
                            "folder": "loras",
                            "size_bytes": 151108832,
                            "cached": False,
                        }
                    ],
                }
            ]
        }
    )

    valid: bool
    errors: list[ErrorReply] = Field(description="What the other fields do not say.")
    node_errors: dict[str, Any] = Field(
        description="ComfyUI's own, by node id, without those that a download would settle."
    )
    missing_nodes: list[MissingNode]
    missing_models: list[MissingModel]
    downloads: list[Fetch]


class DownloadStarted(ReplyModel):
    """A download that goes on without the caller."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "url": "https://example.com/models/style.safetensors",
                    "model_type": "loras",
                    "filename": "style.safetensors",
                    "status": "started",
                }
            ]
        }
    )

    url: str = Field(description="Without what may be secret.")
    model_type: str
    filename: str
    status: Literal["started"]


class DownloadCompleted(ReplyModel):
    """A model that is in its folder."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "url": "https://example.com/models/style.safetensors",
                    "model_type": "loras",
                    "filename": "style.safetensors",
                    "status": "completed",
                    "size": 151108832,
                    "duration": 2.5,
                }
            ]
        }
    )

    url: str = Field(description="Without what may be secret.")
    model_type: str
    filename: str
    status: Literal["completed"]
    size: int = Field(description="Bytes.")
    duration: float = Field(description="Seconds.")


class Download(ReplyModel):
    """A download that is under way."""

    url: str = Field(description="Without what may be secret.")
    folder: str | None = Field(description="The model folder; null for media.")
    bytes: int = Field(description="What has arrived.")
    total: int | None = Field(description="null where the origin does not say.")
    rate: int = Field(description="Bytes per second.")


class DownloadsReply(ReplyModel):
    """The downloads under way."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "downloads": [
                        {
                            "url": "https://example.com/models/style.safetensors",
                            "folder": "loras",
                            "bytes": 50331648,
                            "total": 151108832,
                            "rate": 41943040,
                        }
                    ]
                }
            ]
        }
    )

    downloads: list[Download]
