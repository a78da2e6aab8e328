"""From a request to a prompt that is ready to run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .engine import Graph, NodeClass, PreparedPrompt
from .errors import InvalidPrompt, NoOutput
from .naming import leaves_folder, output_prefix, safe_id
from .requests import PromptRequest

PREFIX = "filename_prefix"

NodeClasses = Callable[[str], NodeClass | None]
"""Gives what is known of a class_type, None if it is not registered."""


def prepare(
    request: PromptRequest, run_id: str, node_class: NodeClasses, *, prepend_filenames: bool
) -> PreparedPrompt:
    """Name the outputs of a request's graph after its id.

    Raises:
        NoOutput: No node of the graph is an output node.
        InvalidPrompt: An output prefix would leave the output folder.
    """
    safe = safe_id(request.id)
    graph = _name_outputs(request.prompt, node_class, safe, prepend=prepend_filenames)
    return PreparedPrompt(
        run_id=run_id,
        id=request.id,
        graph=graph,
        name_prefix=f"{safe}_",
        extra_data=request.extra_data or {},
    )


def _name_outputs(
    graph: Graph, node_class: NodeClasses, safe: str, *, prepend: bool
) -> dict[str, Any]:
    named = dict(graph)
    classes = {node_id: node_class(node["class_type"]) for node_id, node in graph.items()}
    outputs = {node_id: c for node_id, c in classes.items() if c and c.is_output}
    if not outputs and all(classes.values()):
        raise NoOutput(
            "The graph has no output node, such as SaveImage, so nothing would come back.",
            location="prompt",
        )
    for node_id, known in outputs.items():
        prefix = _literal_prefix(graph[node_id]["inputs"], known)
        if prefix is not None:
            _require_inside(prefix, node_id)
            named[node_id] = _with_prefix(
                graph[node_id], output_prefix(prefix, safe, prepend=prepend)
            )
    return named


def _literal_prefix(inputs: dict[str, Any], known: NodeClass) -> str | None:
    value = inputs.get(PREFIX, known.default_prefix)
    if isinstance(value, dict):
        value = value.get("__value__")  # how ComfyUI's editor wraps a value that is no link
    is_literal = isinstance(value, (str, int, float))
    return str(value) if known.has_prefix and is_literal else None


def _with_prefix(node: Any, prefix: str) -> dict[str, Any]:
    return {**node, "inputs": {**node["inputs"], PREFIX: prefix}}


def _require_inside(prefix: str, node_id: str) -> None:
    if leaves_folder(prefix):
        raise InvalidPrompt(
            "filename_prefix must be a path inside the output folder.",
            location=f"prompt.{node_id}.inputs.{PREFIX}",
        )
