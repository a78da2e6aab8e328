"""From ComfyUI's report of how a prompt ended, or why it was refused, to our errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..engine import BROKEN_NODE, NodeText
from ..errors import (
    ExecutionError,
    ExecutionInterrupted,
    InvalidPrompt,
    OutOfMemory,
    StatelessError,
    WorkerDied,
)
from .plan import BrokenLink, Plan, broken_link

MAX_MESSAGE = 10_000
"""Characters of a node's own message that are passed on."""

BLOCKED = "ExecutionBlocked"
"""What ComfyUI has for a type of exception where nothing was raised and a node did not run."""

_MEMORY_TYPE = re.compile(r"(^|\.)(OutOfMemoryError|MemoryError)$")
_MEMORY_TEXT = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)
_DEVICE_TEXT = re.compile(
    r"CUDA error|HIP error|AcceleratorError|device-side assert", re.IGNORECASE
)


def failure(status: Any, plan: Plan, secrets: Iterable[str]) -> StatelessError | None:
    """Return the error that a prompt ended with, None if it succeeded.

    Args:
        status: ComfyUI's ``ExecutionStatus``: status_str, completed, messages.
        secrets: Texts that no message may hold.
    """
    last = dict(status.messages) if status is not None else {}
    if "execution_interrupted" in last:
        return ExecutionInterrupted("The job was interrupted.")
    if "execution_error" in last:
        return node_failure(last["execution_error"], plan, secrets)
    if "execution_success" in last:
        return None
    return ExecutionError("ComfyUI ended the prompt without saying why; its log may.")


def node_failure(data: Mapping[str, Any], plan: Plan, secrets: Iterable[str]) -> ExecutionError:
    """Return the error for an ``execution_error`` message."""
    node_id = plan.real_id(str(data.get("node_id")))
    class_type = plan.class_type(node_id) if node_id in plan.graph else data.get("node_type")
    exception_type = str(data.get("exception_type", ""))
    message = _short(without(str(data.get("exception_message", "")).strip(), secrets))
    out_of_memory = _MEMORY_TYPE.search(exception_type) or _MEMORY_TEXT.search(message)
    return (OutOfMemory if out_of_memory else ExecutionError)(
        f"{class_type} (node {node_id}) failed: {message or exception_type}",
        location=f"prompt.{node_id}",
        details={
            "node_id": node_id,
            "class_type": class_type,
            "exception_type": exception_type,
            "exception_message": message,
        },
    )


def blocked(data: Mapping[str, Any], plan: Plan, secrets: Iterable[str]) -> NodeText:
    """Return what a node was told that did not run: a node before it wants no output, and says why.

    ComfyUI sends that as an ``execution_error``, and the prompt goes on and succeeds.
    """
    details = node_failure(data, plan, secrets).details
    return NodeText(details["node_id"], details["exception_message"])


def worker_death(
    error: BaseException, node_id: str | None, plan: Plan, secrets: Iterable[str]
) -> WorkerDied:
    """Return the error of the job whose node ended the worker thread."""
    class_type = plan.class_type(node_id) if node_id in plan.graph and node_id else None
    kind = type(error).__name__
    where = f"{class_type} (node {node_id})" if class_type else "The prompt"
    return WorkerDied(
        f"{where} ended ComfyUI's worker thread with {kind}; a new one has been started.",
        location=f"prompt.{node_id}" if class_type else "prompt",
        details={
            "node_id": node_id,
            "class_type": class_type,
            "exception_type": kind,
            "exception_message": _short(without(_text(error), secrets)),
        },
    )


def _short(message: str) -> str:
    """Return the beginning of a message: some hold a whole tensor, or the graph."""
    return message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}…"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - whatever its class does
        return ""


def breaks_device(error: StatelessError) -> bool:
    """Say whether an error may have left the device unusable for the whole process."""
    details = error.details
    text = f"{details.get('exception_type')} {details.get('exception_message')}"
    return bool(_DEVICE_TEXT.search(text))


def unknown_classes(missing: Mapping[str, str]) -> InvalidPrompt:
    """Return the error for nodes whose classes are not registered, by their ids."""
    first = next(iter(missing))
    return InvalidPrompt(
        f"Node {first}: {_unknown(missing[first])}",
        location=f"prompt.{first}.class_type",
        details={"node_errors": {n: _missing_node(n, c) for n, c in missing.items()}},
    )


def broken_classes(broken: Mapping[str, tuple[str, str]]) -> InvalidPrompt:
    """Return the error for nodes whose classes say nothing of themselves but an error.

    Args:
        broken: The class_type and what it says, by the nodes' ids.
    """
    first = next(iter(broken))
    return InvalidPrompt(
        f"Node {first}: {_broken(*broken[first])}",
        location=f"prompt.{first}.class_type",
        details={
            "node_errors": {
                node_id: _node_error(node_id, class_type, BROKEN_NODE, _broken(class_type, why))
                for node_id, (class_type, why) in broken.items()
            }
        },
    )


def _missing_node(node_id: str, class_type: str) -> dict[str, Any]:
    return _node_error(node_id, class_type, "missing_node_type", _unknown(class_type))


def _node_error(node_id: str, class_type: str, kind: str, message: str) -> dict[str, Any]:
    error = {
        "type": kind,
        "message": message,
        "details": f"Node ID '#{node_id}'",
        "extra_info": {"node_id": node_id, "class_type": class_type},
    }
    return {"errors": [error], "dependent_outputs": [], "class_type": class_type}


def _broken(class_type: str, why: str) -> str:
    return (
        f"The node class {class_type!r} cannot be used, its pack may not fit this ComfyUI: {why}."
    )


def _unknown(class_type: str) -> str:
    return f"There is no node class {class_type!r} here; install the pack that has it."


def refusal(
    error: Mapping[str, Any] | None, node_errors: Mapping[str, Any], plan: Plan
) -> InvalidPrompt:
    """Return the error for a graph that ComfyUI's validation refused, in part or whole."""
    errors = {
        plan.real_id(node_id): {**found, "errors": [_shown(e) for e in found["errors"]]}
        for node_id, found in node_errors.items()
    }
    for node_id, found in errors.items():
        if node_id in plan.graph:
            found["class_type"] = plan.class_type(node_id)
    details = {"node_errors": errors}
    if (link := broken_link(plan.graph, plan.graph)) and _is_broken_link(errors):
        return leads_nowhere(link, plan, details)
    for node_id, found in errors.items():
        for first in found["errors"]:
            return InvalidPrompt(
                f"Node {node_id} ({found['class_type']}): {_sentence(first)}",
                location=_location(node_id, first),
                details=details,
            )
    message = _sentence(error) if error else "ComfyUI refused the graph."
    return InvalidPrompt(message, location="prompt", details=details)


def leads_nowhere(link: BrokenLink, plan: Plan, details: Mapping[str, Any]) -> InvalidPrompt:
    """Return the error for a link to a node, or an output of one, that is not there."""
    real, target = plan.real_id(link.node_id), plan.real_id(link.target)
    if link.target in plan.graph:
        class_type = plan.class_type(link.target)
        where = f"output {link.slot} of node {target} ({class_type}), which has no such output"
    else:
        where = f"node {target}, which is not in the graph"
    return InvalidPrompt(
        f"Node {real}: {link.name} is linked to {where}.",
        location=f"prompt.{real}.inputs.{link.name}",
        details=details,
    )


def _is_broken_link(errors: Mapping[str, Any]) -> bool:
    kinds = {e.get("type", "") for found in errors.values() for e in found["errors"]}
    return not errors or any(kind.startswith("exception_during") for kind in kinds)


def _shown(error: Mapping[str, Any]) -> dict[str, Any]:
    extra = {k: v for k, v in (error.get("extra_info") or {}).items() if k != "traceback"}
    return {name: _cut(value) for name, value in {**error, "extra_info": extra}.items()}


def _cut(value: Any) -> Any:
    """Return a value with no long text in it: packs say what they like of an input."""
    if isinstance(value, str):
        return _short(value)
    if isinstance(value, dict):
        return {name: _cut(each) for name, each in value.items()}
    return [_cut(each) for each in value] if isinstance(value, (list, tuple)) else value


def _sentence(error: Mapping[str, Any]) -> str:
    message, details = error.get("message", ""), str(error.get("details") or "").strip()
    return _short(f"{message}: {details}" if details else str(message))


def _location(node_id: str, error: Mapping[str, Any]) -> str:
    name = error["extra_info"].get("input_name")
    return f"prompt.{node_id}.inputs.{name}" if name else f"prompt.{node_id}"


def without(text: str, secrets: Iterable[str]) -> str:
    """Return a text with stars in place of each secret."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
