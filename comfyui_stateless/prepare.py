"""From a request to a prompt that is ready to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .engine import Engine, Graph, NodeClass, PreparedPrompt, Workspace
from .errors import InvalidPrompt, NoOutput
from .inputs import Fetcher, Given, Tell, Uploaded, all_or_first_error, find
from .naming import leaves_folder, output_prefix, safe_id
from .requests import PromptRequest

PREFIX = "filename_prefix"

NO_UPLOADS: Mapping[str, Uploaded] = {}

NodeClasses = Callable[[str], NodeClass | None]
"""Gives what is known of a class_type, None if it is not registered."""


async def prepare(
    request: PromptRequest,
    run_id: str,
    engine: Engine,
    fetcher: Fetcher,
    workspace: Workspace,
    tell: Tell,
    *,
    uploads: Mapping[str, Uploaded] = NO_UPLOADS,
    prepend_filenames: bool,
) -> PreparedPrompt:
    """Fetch what a request's graph names, and name its outputs after its id.

    All fetches run side by side; the first that fails cancels the others.

    Args:
        tell: Told how far each fetch is.
        uploads: The files that came with the request, by the name of their part.

    Raises:
        NoOutput: No node of the graph is an output node.
        InvalidPrompt: An output prefix would leave the output folder, or a class is not there.
        InvalidInput: Something that the graph names cannot be had.
    """
    safe = safe_id(request.id)
    graph = name_outputs(request.prompt, engine.node_class, safe, prepend=prepend_filenames)
    engine.check_classes(graph, request.extra_data or {})
    await engine.learn_inputs()
    wanted = find(graph, engine.file_inputs, engine.find_file)
    given = Given(request.credentials or (), uploads)
    given.require_choosable(wanted)
    await fetcher.hold_models(graph, workspace)
    brought = await all_or_first_error([fetcher.bring(w, given, workspace, tell) for w in wanted])
    fetched = {(w.node_id, w.name): b for w, b in zip(wanted, brought, strict=True)}
    graph = with_values(graph, {place: b.value for place, b in fetched.items()})
    return PreparedPrompt(
        run_id=run_id,
        id=request.id,
        graph=graph,
        name_prefix=f"{safe}_",
        extra_data=request.extra_data or {},
        fetched={place: b.files for place, b in fetched.items()},
    )


def name_outputs(
    graph: Graph, node_class: NodeClasses, safe: str, *, prepend: bool
) -> dict[str, Any]:
    """Return a graph whose output nodes are named after an id, in its ``safe`` form.

    Raises:
        NoOutput: No node is an output node.
        InvalidPrompt: An output prefix would leave the output folder.
    """
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


def with_values(graph: Graph, values: Mapping[tuple[str, str], Any]) -> dict[str, Any]:
    """Return a graph with other values in some inputs, by node and input."""
    filled = dict(graph)
    for (node_id, name), value in values.items():
        node = filled[node_id]
        filled[node_id] = {**node, "inputs": {**node["inputs"], name: value}}
    return filled


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
