"""The wire models of what is listed and told of all jobs and of the server."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from .schemas import EXAMPLE_ID, Download, ReplyModel

EXAMPLE_JOB: dict[str, Any] = {
    "run": "9f1c2f3e-5d0c-4d7a-9c52-2f6f0a6f1e11",
    "id": EXAMPLE_ID,
    "source": "prompt",
    "mode": "synchronous",
    "state": "running",
    "position": None,
    "progress": 0.35,
    "nodes": [{"node_id": "3", "class_type": "KSampler", "value": 7, "max": 20}],
    "created": 1764000000000,
    "started": 1764000000120,
    "ended": None,
    "error": None,
    "outputs": {"count": 0, "media_type": None},
    "thumbnail": None,
}

EXAMPLE_STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "comfyui_version": "0.3.75",
    "phase": "ready",
    "ready": True,
    "reason": None,
    "queue": {"depth": 3, "running": 1, "limit": None},
    "cache": {"files": 12, "bytes": 26843545600, "limit_bytes": None},
    "downloads": [],
    "journal": {"open": True, "damaged": None},
    "webhooks": {"due": 0, "oldest_due_s": 0, "failed": 0, "failures": []},
    "publish": False,
}


class RunningNode(ReplyModel):
    """A node that runs, and which of its own steps it is at."""

    node_id: str
    class_type: str | None
    value: float | None
    max: float | None


class JobError(ReplyModel):
    """Why a job failed; the message is cut after 1000 characters."""

    error: str
    code: str
    location: str | None = None
    node_id: str | None = Field(None, description="Left out where it is about no node.")
    class_type: str | None = None


class JobOutputs(ReplyModel):
    """How many outputs there are, and what the first one is."""

    count: int
    media_type: str | None


class ListedJob(ReplyModel):
    """A job where all are listed. Nothing of its request is there but the id."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_JOB]})

    run: str = Field(description="Its own key: several jobs may have one id.")
    id: str
    source: str = Field(description="`prompt`, or `workflow/<path>`.")
    mode: Literal["synchronous", "accepted"] = Field(
        description="Whether its caller waits, or was answered with 202."
    )
    state: Literal[
        "preparing", "queued", "running", "delivering", "succeeded", "failed", "interrupted"
    ]
    position: int | None = Field(description="How many are before it, while it is queued.")
    progress: float = Field(description="Of all its nodes, from 0 to 1.")
    nodes: list[RunningNode]
    created: int = Field(description="Unix milliseconds.")
    started: int | None = Field(description="When ComfyUI began to run it.")
    ended: int | None
    error: JobError | None
    outputs: JobOutputs
    thumbnail: str | None = Field(
        description="Where a small JPEG of the first output is, relative to the API's address."
    )


class JobsReply(ReplyModel):
    """The jobs that live and those that ended lately, newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"jobs": [EXAMPLE_JOB]}]})

    jobs: list[ListedJob]


class QueueStatus(ReplyModel):
    """How long the queue is."""

    depth: int = Field(description="Prompts that wait or run, those of others in ComfyUI too.")
    running: int = Field(description="Jobs of this API that run.")
    limit: int | None = Field(description="MAX_QUEUE_DEPTH.")


class CacheStatus(ReplyModel):
    """What the cache holds; null where its folder has not answered."""

    files: int | None
    bytes: int | None
    limit_bytes: int | None = Field(description="LRU_CACHE_SIZE_GB.")


class JournalStatus(ReplyModel):
    """Where accepted jobs and messages that are due are written down."""

    open: bool
    damaged: str | None = Field(
        description="The folder in STATE_DIR to which a damaged journal was moved, with jobs and "
        "messages that are lost; null once that folder is deleted and the server started again."
    )


class FailedWebhook(ReplyModel):
    """A message that is out of tries."""

    message_id: str
    run: str = Field(description="The key of the job that it is about.")
    url: str = Field(description="Without what may be secret.")
    attempts: int
    error: str
    at: int = Field(description="Unix milliseconds.")


class WebhooksStatus(ReplyModel):
    """Messages that are not delivered; null where the journal has not answered."""

    due: int | None
    oldest_due_s: int | None
    failed: int | None = Field(description="Out of tries, for RESULT_TTL_S.")
    failures: list[FailedWebhook] = Field(description="The last 50 of them, oldest first.")


class ServerStatus(ReplyModel):
    """How the server is."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_STATUS]})

    version: str
    comfyui_version: str
    phase: Literal["starting", "warming", "ready", "failed", "draining"]
    ready: bool = Field(description="Whether a prompt would be taken and run, as `/ready` says.")
    reason: str | None = Field(description="Why not.")
    queue: QueueStatus
    cache: CacheStatus
    downloads: list[Download]
    journal: JournalStatus
    webhooks: WebhooksStatus
    publish: bool = Field(description="Whether workflow endpoints may be saved (ALLOW_PUBLISH).")


REPLIES = (JobsReply, ServerStatus)
