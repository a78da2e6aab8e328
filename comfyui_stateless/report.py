"""What is told of a job while it runs: to those who follow it, to its uploads, to the operator."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from .engine import Graph, OutputFile
from .jobs import Job
from .outputs import described
from .wire import b64encode

Sink = Callable[[str, Mapping[str, Any]], None]
"""Takes the name of an event and its data; called on any thread."""

NodeRan = Callable[[str, float], None]
"""Takes the class of a node that ran, and for how many seconds; called on any thread."""


class Report:
    """Listens to the run of one job.

    Args:
        graph: The job's graph, for the classes of its nodes.
        begin_upload: Takes each output that will be in the result, None where nothing is uploaded.
        system: Takes every event of the run in ComfyUI's own terms, None where nobody wants them.
        node_ran: Takes each node that has run, None where nobody wants them.
    """

    def __init__(
        self,
        job: Job,
        graph: Graph,
        begin_upload: Callable[[OutputFile], None] | None = None,
        system: Sink | None = None,
        node_ran: NodeRan | None = None,
    ) -> None:
        self._job = job
        self._graph = graph
        self._begin_upload = begin_upload
        self._system = system
        self._node_ran = node_ran
        self._running: tuple[str, float] | None = None

    @property
    def wants_outputs(self) -> bool:
        return self._begin_upload is not None or self._job.timeline.is_followed

    def started(self) -> None:
        self._job.started()

    def wants(self, event: str) -> bool:
        if event == "preview":
            return self._job.wants_previews
        return event in self._EVENTS or self._system is not None

    def event(self, name: str, data: Mapping[str, Any]) -> None:
        if name in self._EVENTS:
            self._EVENTS[name](self, data)
        if self._system is not None and name != "preview":
            self._system(name, data)

    def output(self, output: OutputFile) -> None:
        self._job.timeline.tell("output", described(output))
        if self._begin_upload is not None:
            self._begin_upload(output)

    def _cached(self, data: Mapping[str, Any]) -> None:
        self._job.progress.skip(data["nodes"])
        for node_id in data["nodes"]:
            self._tell_node(node_id, cached=True)

    def _executing(self, data: Mapping[str, Any]) -> None:
        self._tell_ran()
        if data["node"] is not None:
            self._running = (data["node"], time.perf_counter())
            self._job.progress.enter(data["node"], self._class_of(data["node"]))
            self._tell_node(data["node"], cached=False)

    def _tell_ran(self) -> None:
        running, self._running = self._running, None
        if running is not None and self._node_ran is not None:
            node_id, began = running
            class_type = self._class_of(node_id)
            if class_type is not None:
                self._node_ran(class_type, time.perf_counter() - began)

    def _tell_node(self, node_id: str, *, cached: bool) -> None:
        node = {"node_id": node_id, "class_type": self._class_of(node_id), "cached": cached}
        self._job.timeline.tell("node", node)

    def _class_of(self, node_id: str) -> str | None:
        return self._graph.get(node_id, {}).get("class_type")

    def _progress(self, data: Mapping[str, Any]) -> None:
        node_id, value, maximum = data["node"], data["value"], data["max"]
        self._job.progress.advance(node_id, value, maximum)
        told = {
            "node": node_id,
            "node_id": node_id,
            "value": value,
            "max": maximum,
            "overall": round(self._job.progress.overall, 4),
        }
        self._job.timeline.tell("progress", told, instead_of=node_id)

    def _preview(self, data: Mapping[str, Any]) -> None:
        preview = {
            "node_id": data["node"],
            "media_type": data["media_type"],
            "image": b64encode(data["image"]).decode("ascii"),
        }
        self._job.timeline.tell("preview", preview, instead_of="latest")

    # Of the class, as bound methods would be a cycle, which only the garbage collector takes away.
    _EVENTS: ClassVar[Mapping[str, Callable[[Any, Mapping[str, Any]], None]]] = {
        "execution_cached": _cached,
        "executing": _executing,
        "progress": _progress,
        "preview": _preview,
    }
