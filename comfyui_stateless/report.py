"""What is told of a job while it runs: to those who follow it, to its uploads, to the operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pybase64

from .engine import Graph, OutputFile
from .jobs import Job
from .outputs import described

Sink = Callable[[str, Mapping[str, Any]], None]
"""Takes the name of an event and its data; called on any thread."""


class Report:
    """Listens to the run of one job.

    Args:
        graph: The job's graph, for the classes of its nodes.
        begin_upload: Takes each output that will be in the result, None where nothing is uploaded.
        system: Takes every event of the run in ComfyUI's own terms, None where nobody wants them.
    """

    def __init__(
        self,
        job: Job,
        graph: Graph,
        begin_upload: Callable[[OutputFile], None] | None = None,
        system: Sink | None = None,
    ) -> None:
        self._job = job
        self._graph = graph
        self._begin_upload = begin_upload
        self._system = system
        self._events: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
            "execution_cached": self._cached,
            "executing": self._executing,
            "progress": self._progress,
            "preview": self._preview,
        }

    @property
    def wants_outputs(self) -> bool:
        return self._begin_upload is not None or self._job.timeline.is_followed

    def started(self) -> None:
        self._job.started()

    def wants(self, event: str) -> bool:
        if event == "preview":
            return self._job.wants_previews
        return event in self._events or self._system is not None

    def event(self, name: str, data: Mapping[str, Any]) -> None:
        if name in self._events:
            self._events[name](data)
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
        if data["node"] is not None:
            self._job.progress.enter(data["node"])
            self._tell_node(data["node"], cached=False)

    def _tell_node(self, node_id: str, *, cached: bool) -> None:
        class_type = self._graph.get(node_id, {}).get("class_type")
        node = {"node_id": node_id, "class_type": class_type, "cached": cached}
        self._job.timeline.tell("node", node)

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
            "image": pybase64.b64encode(data["image"]).decode("ascii"),
        }
        self._job.timeline.tell("preview", preview, instead_of="latest")
