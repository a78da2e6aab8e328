"""From a prepared prompt to the graph that ComfyUI gets, and back to what the caller knows.

ComfyUI gets a copy in which image savers are ours, other savers write into the run's folder and
every output node is made to run. Each change is written down, so that the graph can be shown in
the caller's own classes and names: in replies, and to nodes that embed it in files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import nodes

from ..engine import Graph, NodeClass, PreparedPrompt
from .capture import FOLDER_CLASS, PREFIX, Savers
from .catalog import Catalog
from .nonce import NONCE

MISSING = object()


@dataclass(slots=True)
class Plan:
    """A graph for ComfyUI and the way back.

    Attributes:
        graph: What ComfyUI executes; it writes casts and ``is_changed`` into it.
        name_prefix: What goes in front of the names of files whose node takes no prefix.
        folders: The part of the run's folder that a node writes into, by node id.
        free: The output nodes that write wherever they like.
        captured: The nodes whose images never reach the disk.
        discarded: Those of them whose images nobody will see.
    """

    graph: dict[str, dict[str, Any]]
    name_prefix: str
    folders: dict[str, str] = field(default_factory=dict)
    free: set[str] = field(default_factory=set)
    captured: set[str] = field(default_factory=set)
    discarded: set[str] = field(default_factory=set)
    _classes: dict[str, str] = field(default_factory=dict)
    _inputs: dict[tuple[str, str], Any] = field(default_factory=dict)
    _added: dict[str, str] = field(default_factory=dict)
    _feeding: set[str] | None = None
    _tellers: list[str] = field(default_factory=list)

    def set_input(self, node_id: str, name: str, value: Any) -> None:
        """Change an input, remembering what the caller had there."""
        inputs = self.graph[node_id]["inputs"]
        self._inputs.setdefault((node_id, name), inputs.get(name, MISSING))
        inputs[name] = value

    def set_class(self, node_id: str, class_type: str) -> None:
        """Change a node's class, remembering the caller's."""
        self._classes[node_id] = self.graph[node_id]["class_type"]
        self.graph[node_id]["class_type"] = class_type

    def set_nonce(self, node_id: str, nonce: str, *, reaches: bool) -> None:
        """Make a node run; ``reaches`` says that it would be given the nonce."""
        self.set_input(node_id, NONCE, nonce)
        if reaches:
            self._tellers.append(node_id)

    def take_nonces_back(self) -> None:
        """Take the nonces away that nodes would be given; call it once ComfyUI has looked for results."""
        for node_id in self._tellers:
            self.graph[node_id]["inputs"].pop(NONCE, None)

    def add(self, node_id: str, node: dict[str, Any], owner: str) -> None:
        """Add a node of ours, which the caller never sees: it works for the node ``owner``."""
        self.graph[node_id] = node
        self._added[node_id] = owner

    def class_type(self, node_id: str) -> str:
        """Return the caller's class of a node."""
        return self._classes.get(node_id, str(self.graph[node_id]["class_type"]))

    def real_id(self, node_id: str) -> str:
        """Return the caller's node that a node belongs to, which may have come by expansion."""
        owner = node_id
        while owner not in self.graph and "." in owner:
            owner = owner.rpartition(".")[0]
        return self._added.get(owner, owner if owner in self.graph else node_id)

    def shown_id(self, node_id: str) -> str | None:
        """Return the caller's node that a node belongs to, None for a node of ours."""
        return None if node_id in self._added else self.real_id(node_id)

    def feeds(self, node_id: str) -> bool:
        """Say whether a node gets anything from this one; ask when the plan is made."""
        if self._feeding is None:
            self._feeding = {
                value[0]
                for node in self.graph.values()
                for value in node["inputs"].values()
                if _is_link(value)
            }
        return node_id in self._feeding

    def presented(self) -> dict[str, Any]:
        """Return the graph in the caller's classes and names, with what ComfyUI wrote into it."""
        return {
            node_id: self._presented_node(node_id, node)
            for node_id, node in self.graph.items()
            if node_id not in self._added
        }

    def presented_as(self, given: Graph) -> dict[str, Any]:
        """Return what ``presented`` does, with the very nodes of ``given`` where they are equal.

        So that a job that waits has them once. Nobody may change them.
        """
        shown: dict[str, Any] = {}
        for node_id, node in self.graph.items():
            if node_id in self._added:
                continue
            same = given.get(node_id)
            if node != same:
                node = self._presented_node(node_id, node)
            shown[node_id] = same if node == same else node
        return shown

    def _presented_node(self, node_id: str, node: dict[str, Any]) -> dict[str, Any]:
        inputs = {}
        for name, value in node["inputs"].items():
            original = self._inputs.get((node_id, name), value)
            if original is not MISSING:
                inputs[name] = original
        return {**node, "class_type": self.class_type(node_id), "inputs": inputs}


def copied(graph: Graph) -> dict[str, dict[str, Any]]:
    """Copy a graph as deep as ComfyUI edits it; a client's ``is_changed`` would be trusted, so it goes."""
    return {
        node_id: {
            **{key: value for key, value in node.items() if key != "is_changed"},
            "inputs": dict(node["inputs"]),
        }
        for node_id, node in graph.items()
    }


def plan(
    graph: dict[str, dict[str, Any]],
    prompt: PreparedPrompt,
    folder: str,
    catalog: Catalog,
    savers: Savers,
    expands: Callable[[str], bool],
) -> Plan:
    """Make the graph that ComfyUI gets out of ``graph``, which is edited.

    Args:
        folder: The name of the run's folder inside the output folder.
        expands: Says whether a class is known to make nodes at run time.
    """
    made = Plan(graph, prompt.name_prefix)
    for index, node_id in enumerate(list(graph)):
        class_type = graph[node_id]["class_type"]
        known = catalog.node_class(class_type)
        if known is None:
            continue
        if known.is_output:
            below = f"{folder}/{index}"
            _plan_output(made, node_id, savers, prompt.run_id, below, known)
        elif expands(class_type):
            made.set_input(node_id, NONCE, prompt.run_id)
    _discard_previews(made)
    return made


def _plan_output(
    made: Plan, node_id: str, savers: Savers, nonce: str, folder: str, known: NodeClass
) -> None:
    inputs = made.graph[node_id]["inputs"]
    if saver := savers.saver(made.graph[node_id]["class_type"]):
        if saver.passes_on:
            _wire_past(made, node_id, inputs.get("images"))
        made.set_class(node_id, saver.name)
        made.set_input(node_id, NONCE, nonce)
        made.captured.add(node_id)
    elif known.has_prefix and not known.has_place and PREFIX in inputs:
        made.folders[node_id] = folder
        made.set_input(node_id, PREFIX, _in_folder(made, node_id, folder, inputs[PREFIX]))
    else:
        made.free.add(node_id)
        made.set_nonce(node_id, nonce, reaches=known.takes_any_input)


def _wire_past(made: Plan, node_id: str, source: Any) -> None:
    """Link what hangs behind a saver to the saver's own source, or it would never be cached."""
    if not _is_link(source):
        return
    for consumer, node in made.graph.items():
        for name, value in node["inputs"].items():
            if _is_link(value) and value[0] == node_id and value[1] == 0:
                made.set_input(consumer, name, source)


def _in_folder(made: Plan, node_id: str, folder: str, prefix: Any) -> Any:
    if not _is_link(prefix):
        return f"{folder}/{prefix}"
    ours = f"{folder}/{PREFIX}"
    inputs = {"folder": folder, "prefix": prefix}
    made.add(ours, {"class_type": FOLDER_CLASS, "inputs": inputs}, owner=node_id)
    return [ours, 0]


def _discard_previews(made: Plan) -> None:
    previews = {n for n in made.captured if made.class_type(n) == "PreviewImage"}
    if made.captured - previews:
        made.discarded = previews


def _is_link(value: Any) -> bool:
    """Say whether a value is ``[node id, output]``, as ComfyUI's ``graph_utils.is_link`` does."""
    if not isinstance(value, list) or len(value) != 2:
        return False
    return isinstance(value[0], str) and isinstance(value[1], (int, float))


def is_output(node: Any) -> bool:
    """Say whether a node is one of a registered class of outputs, and has inputs."""
    if not isinstance(node, dict) or not isinstance(node.get("inputs"), dict):
        return False
    registered = nodes.NODE_CLASS_MAPPINGS.get(node.get("class_type"))
    try:
        return getattr(registered, "OUTPUT_NODE", False) is True
    except Exception:  # noqa: BLE001  a class of a pack that does not fit this ComfyUI
        return False


class BrokenLink(NamedTuple):
    """An input that is linked to an output which is not there.

    Attributes:
        target: The node that should have it, in the graph or not.
        slot: Which of its outputs.
    """

    node_id: str
    name: str
    target: str
    slot: Any


def broken_link(graph: Mapping[str, Mapping[str, Any]], starts: Iterable[str]) -> BrokenLink | None:
    """Return a link that leads nowhere, if there is any.

    Args:
        starts: The nodes from which links are followed.
    """
    waiting = list(starts)[::-1]
    seen = set(waiting)
    while waiting:
        node_id = waiting.pop()
        for name, value in graph[node_id]["inputs"].items():
            if not _is_link(value):
                continue
            target, slot = value
            if target not in graph or not _has_output(graph[target]["class_type"], slot):
                return BrokenLink(node_id, name, target, slot)
            if target not in seen:
                seen.add(target)
                waiting.append(target)
    return None


def _has_output(class_type: str, slot: Any) -> bool:
    """Say whether a class has an output as ComfyUI finds out for declared inputs: by asking for it."""
    try:
        nodes.NODE_CLASS_MAPPINGS[class_type].RETURN_TYPES[slot]
    except Exception:  # noqa: BLE001  packs have types of their own there
        return False
    return True
