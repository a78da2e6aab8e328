"""What routes say beside a prompt's outputs, as JSON values."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..cache import DownloadProgress
from ..engine import PromptResult
from ..jobs import Job, JobState
from ..outputs import described

if TYPE_CHECKING:
    from ..examine import Findings


def described_findings(findings: Findings) -> dict[str, Any]:
    """Return what `POST /validate` says."""
    return {
        "valid": findings.is_valid,
        "errors": [error.body() for error in findings.errors],
        "node_errors": findings.node_errors,
        "missing_nodes": [
            {"node_id": node_id, "class_type": class_type}
            for node_id, class_type in findings.missing_nodes.items()
        ],
        "missing_models": [asdict(missing) for missing in findings.missing_models],
        "downloads": [
            {
                "location": fetch.location,
                "url": fetch.url,
                "folder": fetch.folder,
                "size_bytes": fetch.size,
                "cached": fetch.cached,
            }
            for fetch in findings.fetches
        ],
    }


def described_progress(progress: DownloadProgress) -> dict[str, Any]:
    """Return what `GET /download` says of a download; the rate is in bytes per second."""
    return {
        "url": progress.url,
        "folder": progress.folder,
        "bytes": progress.bytes,
        "total": progress.total,
        "rate": round(progress.rate),
    }


def described_job(job: Job, position: int | None = None) -> dict[str, Any]:
    """Return what is known of a job, without its outputs.

    Args:
        position: How many jobs have their turn before it, where it waits.
    """
    said: dict[str, Any] = {
        "id": job.id,
        "state": job.state.value,
        "progress": job.overall,
    }
    if job.state is JobState.QUEUED:
        said["position"] = position
    if job.state is JobState.RUNNING:
        said["node_id"] = job.progress.node_id
    if job.error is not None:
        said["error"] = job.error
    if job.result is not None:
        said |= _described_result(job.result)
    return said


def described_wait(caller_id: str) -> dict[str, Any]:
    """Return what is known of an accepted job that nobody has taken up yet."""
    return {"id": caller_id, "state": JobState.QUEUED.value, "progress": 0.0}


def _described_result(result: PromptResult) -> dict[str, Any]:
    return {
        **({} if result.urls is None else {"images": list(result.urls)}),
        "filenames": [output.filename for output in result.outputs],
        "outputs": [described(output) for output in result.outputs],
        "texts": [{"node_id": text.node_id, "text": text.text} for text in result.texts],
        "stats": result.stats,
    }
