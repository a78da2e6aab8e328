"""ComfyUI's events of a run, in the terms of the one who sent the prompt."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from .failures import without
from .plan import Plan

Told = dict[str, Any]


class Translation:
    """Puts the events of one run into the ids, classes and names that its caller knows.

    What ComfyUI sent is left as it is, since its caches and its history hold the same objects.

    Args:
        caller_id: The caller's id of the prompt.
        folder: The name of the run's folder, which is in no name that the caller gave.
        secrets: Texts that no event may hold.
    """

    def __init__(self, caller_id: str, plan: Plan, folder: str, secrets: Iterable[str]) -> None:
        self._caller_id = caller_id
        self._plan = plan
        self._folder = folder
        self._secrets = tuple(secrets)
        self._images: dict[str, list[Told]] = {}

    def __contains__(self, event: object) -> bool:
        return event in self._TRANSLATIONS

    def __call__(self, event: str, data: Mapping[str, Any]) -> Told | None:
        """Return the data of an event for the caller, None where it is of a node of ours."""
        return self._TRANSLATIONS[event](self, data)

    def note_image(self, node_id: str, filename: str, *, temp: bool) -> None:
        """Note an image that a node of the caller's saves, as far as the caller knows."""
        subfolder, _, name = filename.rpartition("/")
        entry = {"filename": name, "subfolder": subfolder, "type": "temp" if temp else "output"}
        self._images.setdefault(node_id, []).append(entry)

    def _plain(self, data: Mapping[str, Any]) -> Told:
        return {**data, "prompt_id": self._caller_id}

    def _cached(self, data: Mapping[str, Any]) -> Told:
        return {**self._plain(data), "nodes": self._ids(data["nodes"])}

    def _executing(self, data: Mapping[str, Any]) -> Told | None:
        if data["node"] is None:
            return self._plain(data)
        return self._of_node(data)

    def _executed(self, data: Mapping[str, Any]) -> Told | None:
        told = self._of_node(data)
        if told is not None:
            output = self._copied(data.get("output"))
            if images := self._images.get(told["node"]):
                output = {**(output or {}), "images": images}
            told["output"] = output
        return told

    def _progress(self, data: Mapping[str, Any]) -> Told | None:
        if data.get("node") is None:
            return None
        return {**self._plain(data), "node": self._plan.real_id(data["node"])}

    def _progress_state(self, data: Mapping[str, Any]) -> Told:
        nodes: dict[str, Told] = {}
        for node_id, state in data["nodes"].items():
            shown_id = self._plan.shown_id(node_id)
            if shown_id is None or (shown_id in nodes and state["state"] == "finished"):
                continue  # a node that was made by one of the caller's, which goes on
            nodes[shown_id] = {
                **state,
                "node_id": shown_id,
                "prompt_id": self._caller_id,
                "display_node_id": shown_id,
                "parent_node_id": None,
                "real_node_id": shown_id,
            }
        return {**self._plain(data), "nodes": nodes}

    def _failed(self, data: Mapping[str, Any]) -> Told:
        node_id = self._plan.real_id(str(data.get("node_id")))
        told = {**self._copied(data), "prompt_id": self._caller_id, "node_id": node_id}
        if node_id in self._plan.graph:
            told["node_type"] = self._plan.class_type(node_id)
        for key in ("executed", "current_outputs"):
            if key in data:
                told[key] = self._ids(data[key])
        return told

    def _of_node(self, data: Mapping[str, Any]) -> Told | None:
        node_id = self._plan.shown_id(data["node"])
        if node_id is None:
            return None
        return {**self._plain(data), "node": node_id, "display_node": node_id}

    def _ids(self, node_ids: Iterable[str]) -> list[str]:
        """Return the caller's nodes that these belong to, each once."""
        shown = dict.fromkeys(map(self._plan.shown_id, node_ids))
        return [node_id for node_id in shown if node_id is not None]

    def _copied(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return {key: self._copied(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._copied(item) for item in value]
        return value

    def _text(self, text: str) -> str:
        if self._folder in text:
            text = re.sub(rf"{re.escape(self._folder)}[\\/]\d+[\\/]?", "", text)
        return without(text, self._secrets)

    # Of the class, not of each object: bound methods would be a cycle, and keep a run's images in
    # memory until the garbage collector comes.
    _TRANSLATIONS: ClassVar[Mapping[str, Callable[[Any, Mapping[str, Any]], Told | None]]] = {
        "execution_start": _plain,
        "execution_cached": _cached,
        "executing": _executing,
        "executed": _executed,
        "progress": _progress,
        "progress_state": _progress_state,
        "execution_success": _plain,
        "execution_error": _failed,
        "execution_interrupted": _failed,
    }
