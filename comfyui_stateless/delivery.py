"""From outputs to the result of a prompt."""

from __future__ import annotations

from typing import Any

from .engine import Execution, OutputFile, PromptResult
from .requests import PromptRequest
from .timing import Stopwatch


def deliver(
    request: PromptRequest,
    execution: Execution,
    outputs: tuple[OutputFile, ...],
    watch: Stopwatch,
) -> PromptResult:
    """Put together what a reply to ``request`` says."""
    return PromptResult(
        id=request.id,
        prompt=execution.prompt,
        outputs=outputs,
        texts=execution.texts,
        stats=stats(execution, watch),
        echo=request.echo(),
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
