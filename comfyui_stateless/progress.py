"""How far a run is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node that runs.

    Attributes:
        value: How many of its own steps are done, None where it has not said.
        maximum: How many there are.
    """

    node_id: str
    class_type: str | None = None
    value: float | None = None
    maximum: float | None = None


class Progress:
    """Counts nodes that are done, and the part of the one that runs.

    Args:
        nodes: How many nodes the graph has.
    """

    def __init__(self, nodes: int) -> None:
        self._nodes = max(nodes, 1)
        self._done: set[str] = set()
        self._current: RunningNode | None = None
        self._part = 0.0

    @property
    def overall(self) -> float:
        """From 0 to 1, each node counting the same."""
        return min(1.0, (len(self._done) + self._part) / self._nodes)

    @property
    def node_id(self) -> str | None:
        """The node that runs now, None before and after."""
        return None if self._current is None else self._current.node_id

    @property
    def node(self) -> RunningNode | None:
        """The same, with all that is known of it."""
        return self._current

    def enter(self, node_id: str, class_type: str | None = None) -> None:
        """Note that a node begins, and so that the one before it is done."""
        self.leave()
        self._done.discard(node_id)
        self._current = RunningNode(node_id, class_type)

    def advance(self, node_id: str, value: float, maximum: float) -> None:
        """Note how far a node is."""
        if self._current is not None and node_id == self._current.node_id and maximum > 0:
            self._current = replace(self._current, value=value, maximum=maximum)
            self._part = min(1.0, max(0.0, value / maximum))

    def skip(self, node_ids: Iterable[str]) -> None:
        """Note nodes whose results are known already."""
        self._done.update(node_ids)

    def leave(self) -> None:
        """Note that the node that ran is done."""
        if self._current is not None:
            self._done.add(self._current.node_id)
        self._current, self._part = None, 0.0
