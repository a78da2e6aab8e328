"""How far a run is."""

from __future__ import annotations

from collections.abc import Iterable


class Progress:
    """Counts nodes that are done, and the part of the one that runs.

    Args:
        nodes: How many nodes the graph has.
    """

    def __init__(self, nodes: int) -> None:
        self._nodes = max(nodes, 1)
        self._done: set[str] = set()
        self._current: str | None = None
        self._part = 0.0

    @property
    def overall(self) -> float:
        """From 0 to 1, each node counting the same."""
        return min(1.0, (len(self._done) + self._part) / self._nodes)

    @property
    def node_id(self) -> str | None:
        """The node that runs now, None before and after."""
        return self._current

    def enter(self, node_id: str) -> None:
        """Note that a node begins, and so that the one before it is done."""
        self.leave()
        self._done.discard(node_id)
        self._current = node_id

    def advance(self, node_id: str, value: float, maximum: float) -> None:
        """Note how far a node is."""
        if node_id == self._current and maximum > 0:
            self._part = min(1.0, max(0.0, value / maximum))

    def skip(self, node_ids: Iterable[str]) -> None:
        """Note nodes whose results are known already."""
        self._done.update(node_ids)

    def leave(self) -> None:
        """Note that the node that ran is done."""
        if self._current is not None:
            self._done.add(self._current)
        self._current, self._part = None, 0.0
