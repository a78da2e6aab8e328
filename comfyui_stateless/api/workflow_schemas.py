"""The wire models of replies that are about workflow endpoints."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from .schemas import ReplyModel

EXAMPLE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"prompt": {"type": "string", "description": "What the image shows."}},
    "required": ["prompt"],
    "additionalProperties": False,
}

EXAMPLE_WORKFLOW: dict[str, Any] = {
    "path": "sdxl/text-to-image",
    "source": "sdxl/text-to-image.json",
    "summary": "SDXL: text to image",
    "description": "Makes images of about one megapixel.",
    "schema": EXAMPLE_SCHEMA,
}

EXAMPLE_PUBLICATION: dict[str, Any] = {
    "graph": {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    },
    "inputs": {"width": {"node": "1", "input": "width", "maximum": 2048}},
    "summary": "A plain image",
}


class WorkflowFileFault(ReplyModel):
    """What is wrong with a file in WORKFLOW_DIR."""

    file: str
    line: int | None
    reason: str


class ListedWorkflow(ReplyModel):
    """An endpoint where all are listed. What is not known is left out."""

    path: str = Field(description="It is at `POST /workflow/<path>`.")
    source: str = Field(description="Its file, seen from WORKFLOW_DIR.")
    summary: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = Field(
        None, alias="schema", description="The JSON Schema of `input`."
    )
    error: str | None = Field(
        None,
        description="What is wrong with the file as it is now; "
        "the last version that was good goes on serving.",
    )


class WorkflowsReply(ReplyModel):
    """All endpoints, and what is wrong with files in WORKFLOW_DIR."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"workflows": [EXAMPLE_WORKFLOW], "errors": []}]}
    )

    workflows: list[ListedWorkflow]
    errors: list[WorkflowFileFault]


class WorkflowDefinition(ReplyModel):
    """What an endpoint without code is made of."""

    graph: dict[str, Any]
    inputs: dict[str, Any] = Field(description="By name, as a YAML file has them.")


class WorkflowReply(ListedWorkflow):
    """One endpoint. Those made of code have no `definition`."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_WORKFLOW]})

    example: dict[str, Any] | None = Field(None, description="An `input` that works.")
    definition: WorkflowDefinition | None = None


class WorkflowRemoved(ReplyModel):
    """An endpoint is no more."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"path": "sdxl/text-to-image", "status": "removed"}]}
    )

    path: str
    status: str = Field(examples=["removed"])


REPLIES = (WorkflowsReply, WorkflowReply, WorkflowRemoved)
