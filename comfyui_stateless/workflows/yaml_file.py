"""Reading YAML with the lines on which things stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .base import WorkflowFileError
from .declared import Lines, Path_

MAX_PARTS = 100_000
"""Keys and items that a file may have; aliases count as often as they are used."""

_UNREADABLE = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)
"""What PyYAML raises on values that are not what their tags say: ``!!int ''``, ``!!bool x``."""


def read_yaml(text: str, file: Path) -> tuple[Any, Lines]:
    """Return a document's values, and where they stand.

    Raises:
        WorkflowFileError: It is no YAML, or has a key twice.
    """
    lines = Lines()
    try:
        loader = yaml.SafeLoader(text)
    except yaml.YAMLError as error:
        raise WorkflowFileError(file, f"it is not YAML: {error}") from None
    try:
        root = loader.get_single_node()
        if root is None:
            return None, lines
        _Walk(file, lines).walk(root, ())
        return loader.construct_document(root), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        raise WorkflowFileError(file, f"it is not YAML: {error.problem}", line) from None
    except _UNREADABLE as error:
        raise WorkflowFileError(file, f"it is not YAML: {error}") from None
    finally:
        loader.dispose()


class _Walk:
    """Notes the lines of all parts of a document."""

    def __init__(self, file: Path, lines: Lines) -> None:
        self._file = file
        self._lines = lines
        self._left = MAX_PARTS

    def walk(self, node: yaml.Node, place: Path_) -> None:
        self._left -= 1
        if self._left < 0:
            raise WorkflowFileError(self._file, f"it has more than {MAX_PARTS} parts")
        line = node.start_mark.line + 1
        is_scalar = isinstance(node, yaml.ScalarNode)
        self._lines.note(place, line, str(node.value) if is_scalar else None)
        if isinstance(node, yaml.MappingNode):
            self._walk_mapping(node, place)
        elif isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                self.walk(item, (*place, number))

    def _walk_mapping(self, node: yaml.MappingNode, place: Path_) -> None:
        seen: set[str] = set()
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in seen:
                where = ".".join(str(part) for part in (*place, name))
                raise WorkflowFileError(self._file, f"{where}: stands there twice", line)
            seen.add(name)
            self.walk(value, (*place, name))
            self._lines.note((*place, name), line, value.value if _is_plain(value) else None)


def _is_plain(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode)
