"""What is said of a job where all jobs are listed: nothing of its request, and nothing large."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..jobs import Job

MAX_ERROR = 1000
"""Characters of an error's message; a node may put a whole tensor into its own."""


def described(job: Job, position: int | None) -> dict[str, Any]:
    """Return what is said of a job, as JSON values.

    Args:
        position: How many jobs of ours are before it, None if it does not wait.
    """
    result = job.result.outputs if job.result is not None else ()
    return {
        "run": job.run_id,
        "id": job.id,
        "source": job.source,
        "mode": "accepted" if job.is_accepted else "synchronous",
        "state": job.state.value,
        "position": position,
        "progress": job.overall,
        "nodes": _nodes(job),
        "created": job.created,
        "started": job.began,
        "ended": job.over,
        "error": None if job.error is None else _error(job.error),
        "outputs": {
            "count": len(result),
            "media_type": result[0].media_type if result else None,
        },
        "thumbnail": None,
    }


def thumbnail_of(run_id: str) -> str:
    """Return where a job's thumbnail is, relative to the API's own address."""
    return f"jobs/{run_id}/thumbnail"


def _nodes(job: Job) -> list[dict[str, Any]]:
    node = job.progress.node
    if node is None:
        return []
    return [
        {
            "node_id": node.node_id,
            "class_type": node.class_type,
            "value": node.value,
            "max": node.maximum,
        }
    ]


def _error(body: Mapping[str, Any]) -> dict[str, Any]:
    said = {"error": body["error"][:MAX_ERROR], "code": body["code"], **_node_of(body["details"])}
    return {**said, **({"location": body["location"]} if "location" in body else {})}


def _node_of(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return which node an error is about, if it is about one."""
    if "node_id" in details:
        return {"node_id": details["node_id"], "class_type": details.get("class_type")}
    for node_id, errors in (details.get("node_errors") or {}).items():
        return {"node_id": node_id, "class_type": errors.get("class_type")}
    return {}
