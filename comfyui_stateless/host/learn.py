"""Which node classes make nodes at run time that are outputs.

Such a class is taken from ComfyUI's cache the second time, and then the nodes that it made do not
run: their files are missing. So it has to run each time. So has a class that writes files without being an
output: they go with the job, while the cache keeps their paths.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class Expanders:
    """Learns from every prompt, of anybody, which classes expand into output nodes."""

    def __init__(self) -> None:
        self._classes: set[str] = set()

    def __contains__(self, class_type: object) -> bool:
        return class_type in self._classes

    def note(self, class_types: Iterable[str]) -> None:
        """Note classes whose nodes have to run each time for another reason."""
        self._classes.update(class_types)

    def learn(self, graph: Mapping[str, Any], history: Mapping[str, Any]) -> None:
        """Note the classes of nodes in ``graph`` whose expansion has outputs in ``history``."""
        for node_id, meta in (history.get("meta") or {}).items():
            real_id = meta.get("real_node_id")
            if real_id != node_id and real_id in graph:
                self._classes.add(graph[real_id]["class_type"])
