"""A graph in a JSON file, with the inputs that a YAML file or marks in its titles declare."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..requests import MAX_DEPTH, check_graph, is_deeper
from .base import JsonObject, WorkflowFileError
from .declared import Declarations, Declared, Target, declarations
from .marks import broken_marks_of, marks_of

_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class GraphFile:
    """A graph and its inputs as they were written down.

    Attributes:
        source: The JSON file.
        lines: The line of each node in it.
        declared: What is declared of its inputs; as it was published, for whoever edits it.
        has_marks: Whether marks declare them.
        warnings: What its author may want to know.
    """

    source: Path
    graph: Mapping[str, JsonObject]
    lines: Mapping[str, int]
    declared: Declarations
    has_marks: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def class_types(self) -> frozenset[str]:
        """The classes of its nodes."""
        return frozenset(node["class_type"] for node in self.graph.values())


def read_graph_file(source: Path, description: Path | None) -> GraphFile:
    """Read a JSON file, and the YAML file beside it if there is one. Blocks.

    Raises:
        WorkflowFileError: One of them cannot be read, or is not what it has to be.
    """
    graph, lines = parse_graph(_text(source), source)
    if description is None:
        return marked(source, graph, lines)
    from .yaml_file import read_yaml  # a fifth of the time that ComfyUI's start has for us

    said, places = read_yaml(_text(description), description)
    declared = declarations({} if said is None else said, description, places)
    warnings = () if declared.inputs else (f"{description.name} declares no inputs",)
    return GraphFile(source, graph, lines, declared, warnings=warnings)


def marked(source: Path, graph: Mapping[str, JsonObject], lines: Mapping[str, int]) -> GraphFile:
    """Return a graph with the inputs that its titles mark."""
    inputs: dict[str, Declared] = {}
    warnings: list[str] = []
    for node_id, node in graph.items():
        line = lines.get(node_id)
        warnings += [f"node {node_id}: {mark} is no mark" for mark in broken_marks_of(node)]
        for mark in marks_of(node):
            known = inputs.get(mark.name)
            targets = (*(known.targets if known else ()), Target(node_id, mark.widget, line))
            said = {"type": "seed"} if mark.name == "seed" else {}
            inputs[mark.name] = Declared(
                mark.name, source, targets, said, known.lines if known else {"": line}
            )
    if not inputs:
        warnings.append("it has no inputs: no YAML file lies beside it, and no title has @name")
    declared = Declarations(tuple(inputs.values()))
    return GraphFile(source, graph, lines, declared, True, tuple(warnings))


def parse_graph(text: str, source: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Return a graph, and the line of each of its nodes.

    Raises:
        WorkflowFileError: The text is no graph in the API format.
    """
    try:
        graph, lines = _Nodes(text, source).read()
    except json.JSONDecodeError as error:
        raise WorkflowFileError(source, f"it is not JSON: {error.msg}", error.lineno) from None
    except (ValueError, RecursionError) as error:
        raise WorkflowFileError(source, f"it is not JSON: {error}") from None
    if not graph:
        raise WorkflowFileError(source, "the graph has no nodes", 1)
    if is_deeper(graph, MAX_DEPTH):
        raise WorkflowFileError(source, f"it is nested more than {MAX_DEPTH} levels deep")
    try:
        check_graph(graph)
    except RequestError as error:
        node = (error.location or "").removeprefix("prompt").lstrip(".").partition(".")[0]
        where = f"node {node}: " if node in lines else ""
        raise WorkflowFileError(source, where + error.message, lines.get(node, 1)) from None
    return graph, lines


class _Nodes:
    """Reads a JSON object member by member, to know the line of each."""

    def __init__(self, text: str, source: Path) -> None:
        self._text = text
        self._source = source
        self._at = 0
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)

    def read(self) -> tuple[dict[str, Any], dict[str, int]]:
        members: dict[str, Any] = {}
        lines: dict[str, int] = {}
        self._take("{", "it must be an object: node id to node")
        while self._peek() != "}":
            if members:
                self._take(",", "a comma is missing")
            self._peek()
            line = self._text.count("\n", 0, self._at) + 1
            name = self._value()
            if not isinstance(name, str):
                raise json.JSONDecodeError("a node id must be a string", self._text, self._at)
            if name in members:
                raise WorkflowFileError(self._source, f"node {name} stands there twice", line)
            self._take(":", "a colon is missing")
            self._peek()
            members[name], lines[name] = self._value(), line
        self._at += 1
        if self._peek():
            raise json.JSONDecodeError("something stands behind the end", self._text, self._at)
        return members, lines

    def _value(self) -> Any:
        value, self._at = self._decoder.raw_decode(self._text, self._at)
        return value

    def _peek(self) -> str:
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at
        return self._text[self._at : self._at + 1]

    def _take(self, character: str, otherwise: str) -> None:
        if self._peek() != character:
            raise json.JSONDecodeError(otherwise, self._text, self._at)
        self._at += 1


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _text(path: Path) -> str:
    """Return a file's text.

    Raises:
        WorkflowFileError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise WorkflowFileError(path, f"it cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise WorkflowFileError(path, "it is not UTF-8 text") from None
