"""Endpoints without code: a graph with named inputs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import RequestError
from .base import Built, Description, JsonObject, Surroundings, WorkflowFileError
from .definitions import WRAPPED
from .fields import InputField, Missing, WrongValue, listed, object_schema
from .graph_file import GraphFile, read_graph_file
from .resolve import resolve


class GraphEndpoint:
    """A graph file as an endpoint.

    Raises:
        WorkflowFileError: The file does not fit ComfyUI's definitions.
    """

    def __init__(self, file: GraphFile, surroundings: Surroundings) -> None:
        _require_classes(file, surroundings)
        self._file = file
        self._fields = resolve(file, surroundings)
        self._description = Description(
            schema=object_schema(self._fields),
            summary=file.declared.summary,
            description=file.declared.description,
            example=_example(self._fields),
        )

    @property
    def source(self) -> Path:
        return self._file.source

    @property
    def file(self) -> GraphFile:
        """The file as it was read."""
        return self._file

    @property
    def description(self) -> Description:
        return self._description

    @property
    def definition(self) -> JsonObject:
        """What was published: ``graph``, and ``inputs`` as a YAML file has them."""
        return {
            "graph": self._file.graph,
            "inputs": {d.name: _declaration(d.said, self._fields[d.name]) for d in self._inputs},
        }

    @property
    def _inputs(self) -> Any:
        return self._file.declared.inputs

    async def renewed(self, surroundings: Surroundings) -> GraphEndpoint:
        """Return the endpoint of the same file, for other surroundings."""
        return GraphEndpoint(self._file, surroundings)

    async def build(self, given: JsonObject) -> Built:
        """Check ``given`` and put it into the graph.

        Raises:
            RequestError: A value is wrong; the message says what is right.
        """
        _require_known(given, self._fields)
        values = {name: value for name, field in self._fields.items()
                  if not isinstance(value := _value(field, given), Missing)}  # fmt: skip
        graph = {node_id: dict(node) for node_id, node in self._file.graph.items()}
        for name, value in values.items():
            for place in self._fields[name].places:
                node = graph[place.node]
                node["inputs"] = {
                    **node["inputs"],
                    place.input: _in_graph(value, self._fields[name]),
                }
        return Built(graph, values)


async def load(path: Path, surroundings: Surroundings) -> GraphEndpoint:
    """Return the endpoint of a JSON file, with the inputs of the YAML file beside it, if any.

    Raises:
        WorkflowFileError: A file cannot be read, or is wrong; says where.
    """
    beside = [path.with_suffix(ending) for ending in (".yaml", ".yml")]
    description = next((each for each in beside if each.exists()), None)
    return GraphEndpoint(await asyncio.to_thread(read_graph_file, path, description), surroundings)


def _require_classes(file: GraphFile, surroundings: Surroundings) -> None:
    is_output = False
    for node_id, node in file.graph.items():
        definition = surroundings.definitions.get(node["class_type"])
        if definition is None:
            raise WorkflowFileError(
                file.source,
                f"node {node_id}: this ComfyUI has no node class {node['class_type']}; "
                "a node pack is missing",
                file.lines.get(node_id),
            )
        is_output = is_output or definition.get("output_node", True)
    if not is_output:
        raise WorkflowFileError(file.source, "the graph has no output node, such as SaveImage", 1)


def _require_known(given: JsonObject, fields: Mapping[str, InputField]) -> None:
    for name in given:
        if name not in fields:
            known = f"it has {listed(list(fields))}" if fields else "it has none"
            raise RequestError(
                f"The workflow has no input {name[:100]}; {known}.", location=f"input.{name[:100]}"
            )


def _value(field: InputField, given: JsonObject) -> Any:
    """Return an input's value, ``MISSING`` where the graph's own stays."""
    if field.name not in given:
        if field.required:
            raise RequestError(f"{field.name} is required.", location=f"input.{field.name}")
        return field.drawn() if _is_drawn(field) else field.default
    value = given[field.name]
    try:
        field.check(value)
    except WrongValue as error:
        raise RequestError(f"{field.name} {error}.", location=f"input.{field.name}") from None
    return value


def _is_drawn(field: InputField) -> bool:
    return field.kind == "seed" and isinstance(field.default, Missing)


def _in_graph(value: Any, field: InputField) -> Any:
    """Return a value as a graph has it: a bare list is a link there, but where media are fetched."""
    is_choice = isinstance(value, list) and field.kind in ("enum", "model", "any")
    return {WRAPPED: value} if is_choice else value


def _example(fields: Mapping[str, InputField]) -> dict[str, Any] | None:
    """Return an input that works where the graph's own values do, None if there is none."""
    example: dict[str, Any] = {}
    for name, field in fields.items():
        value = field.default if isinstance(field.example, Missing) else field.example
        if field.options and not field.is_many and value not in field.options:
            value = field.options[0]
        if isinstance(value, Missing) and field.required:
            return None
        if not isinstance(value, Missing) and not _is_drawn(field):
            example[name] = value
    return example


def _declaration(said: JsonObject, field: InputField) -> dict[str, Any]:
    """Return what was said of an input, with its places as they were found."""
    rest = {name: value for name, value in said.items() if name not in ("node", "input", "to")}
    places = [{"node": place.node, "input": place.input} for place in field.places]
    return {**(places[0] if len(places) == 1 else {"to": places}), **rest}
