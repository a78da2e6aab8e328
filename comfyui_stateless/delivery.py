"""From outputs to the result of a prompt."""

from __future__ import annotations

from typing import Any

from .engine import Execution, OutputFile, PromptResult
from .errors import RequestError, StorageError
from .requests import UPLOADS, PromptRequest
from .timing import Stopwatch
from .uploads import JobUploads, Uploads


async def check_target(request: PromptRequest, uploads: Uploads) -> None:
    """Refuse a place for outputs that can never work, before anything runs.

    Raises:
        RequestError: Names the field, and why.
    """
    if request.target is None:
        return
    try:
        await uploads.check(request.target)
    except StorageError as error:
        name = next(name for name in UPLOADS if getattr(request, name) is not None)
        raise RequestError(
            f"{name}: {error.message}", location=name, details={"reason": error.code}
        ) from error


async def deliver(
    request: PromptRequest,
    execution: Execution,
    outputs: tuple[OutputFile, ...],
    uploading: JobUploads,
    watch: Stopwatch,
) -> PromptResult:
    """Bring outputs to where the request wants them; put together what a reply says.

    Raises:
        DeliveryFailed: An upload failed; ``details.uploaded`` lists what is there.
        Superseded: A later job has taken over one of the URLs.
    """
    urls = None
    if request.target is not None:
        with watch.stage("upload_time"):
            urls = await uploading.finish(outputs)
    return PromptResult(
        id=request.id,
        prompt=execution.prompt,
        outputs=outputs,
        texts=execution.texts,
        stats=stats(execution, watch),
        echo=request.echo(),
        urls=urls,
    )


def stats(execution: Execution, watch: Stopwatch) -> dict[str, Any]:
    """Return the times of a job, in integer milliseconds; starts and ends are Unix time."""
    total = {
        "start": execution.started,
        "end": execution.ended,
        "duration": execution.ended - execution.started,
    }
    nodes = {
        node_id: {"start": times.start, "end": times.end, "cached": times.cached}
        for node_id, times in execution.nodes.items()
    }
    return {
        "comfy_execution": {"total": total, **total, "nodes": nodes},
        "queue_time": watch.ms("queue_time"),
        "preprocess_time": watch.ms("preprocess_time"),
        "comfy_round_trip_time": watch.ms("comfy_round_trip_time"),
        "postprocess_time": watch.ms("postprocess_time"),
        "upload_time": watch.ms("upload_time"),
        "total_time": watch.total_ms(),
    }
