"""When the nodes of a run ran."""

from __future__ import annotations

from collections.abc import Iterable

from ..engine import NodeTimes
from ..timing import unix_ms


class Times:
    """Clocks a run from ComfyUI's events; all times are Unix milliseconds.

    A node ends when the next one begins: ComfyUI runs one at a time, and tells of beginnings.
    """

    def __init__(self) -> None:
        self.started = self.ended = 0
        self._nodes: dict[str, tuple[int, int]] = {}
        self._cached: dict[str, int] = {}
        self._current: str | None = None

    def start(self) -> None:
        """Note that the run has left the queue."""
        self.started = self.ended = unix_ms()

    def cached(self, node_ids: Iterable[str]) -> None:
        """Note which results are known already."""
        now = unix_ms()
        self._cached = dict.fromkeys(node_ids, now)

    def enter(self, node_id: str) -> None:
        """Note that a node begins, and so that the one before it has ended."""
        self._leave()
        now = unix_ms()
        began, _ = self._nodes.get(node_id, (now, now))
        self._nodes[node_id] = (began, now)
        self._current = node_id

    def end(self) -> None:
        """Note that the run is over."""
        self._leave()
        self.ended = unix_ms()
        self.started = self.started or self.ended

    def nodes(self, graph: Iterable[str]) -> dict[str, NodeTimes]:
        """Return the times of every node that ran or whose result was known, in the graph's order.

        JavaScript puts keys that are numbers in order, as the graphs are that it writes: so a
        receiver that checks a signature over the JSON that it writes anew finds the same bytes.
        """
        known = {
            node_id: NodeTimes(now, now, cached=True)
            for node_id, now in self._cached.items()
            if node_id not in self._nodes
        }
        ran = {node_id: NodeTimes(*span, cached=False) for node_id, span in self._nodes.items()}
        times = {**known, **ran}
        return {node_id: times[node_id] for node_id in (*graph, *times) if node_id in times}

    def _leave(self) -> None:
        if self._current is not None:
            began, _ = self._nodes[self._current]
            self._nodes[self._current] = (began, unix_ms())
            self._current = None
