"""YAML, and JSON as YAML, with the line of everything in it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from ..errors import ManifestError

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_WHAT = {
    "null": "empty",
    "bool": "true or false (in quotes it is a text)",
    "int": "a number (in quotes it is a text)",
    "float": "a number (in quotes it is a text)",
    "timestamp": "a date (in quotes it is a text)",
    "seq": "a list",
    "map": "a mapping",
}
_BEYOND_ASCII = re.compile(r"[^\n\r\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class Document:
    """The tree of a document.

    Attributes:
        root: Its top node, None where the document is empty.
        is_json: Whether only what stands in quotes is a text.
    """

    root: Any
    is_json: bool

    def line(self, node: Any) -> int:
        """Return the line that a node begins in, from 1 on."""
        return int(node.start_mark.line) + 1

    def text(self, node: Any) -> str | None:
        """Return a node's text, None where it is something else."""
        if node.tag != f"{_TAG}str" or (self.is_json and node.style is None):
            return None
        # JSON writes what is beyond 16 bits as two halves.
        whole = str(node.value).encode("utf-16", "surrogatepass")
        return whole.decode("utf-16", "replace")

    def is_null(self, node: Any) -> bool:
        """Say whether a node is empty, or null."""
        return bool(node.tag == f"{_TAG}null")

    def items(self, node: Any) -> list[Any] | None:
        """Return the nodes of a list, None where it is something else."""
        return list(node.value) if node.tag == f"{_TAG}seq" else None

    def pairs(self, node: Any) -> list[tuple[Any, Any]] | None:
        """Return the keys and values of a mapping as written, None where it is something else."""
        if node.tag != f"{_TAG}map":
            return None
        return [(key, value) for key, value in node.value if key.tag != _MERGE]

    def merged(self, node: Any) -> dict[str, Any]:
        """Return what a mapping takes over from others by ``<<``, where those stand alone."""
        others = [value for key, value in node.value if key.tag == _MERGE]
        mappings = [each for other in others for each in (self.items(other) or [other])]
        return {
            str(key.value): value
            for mapping in reversed(mappings)
            for key, value in self.pairs(mapping) or ()
        }

    def what(self, node: Any) -> str:
        """Return what a node is, for a message."""
        kind = str(node.tag).removeprefix(_TAG)
        if kind == "str":
            return "a number" if self.text(node) is None else "a text"
        return _WHAT.get(kind, f"of the unknown type {node.tag}")


def compose(text: str, name: str) -> Document:
    """Read a document.

    Raises:
        ManifestError: It is neither YAML nor JSON; the message names the line.
    """
    import yaml

    text = text.removeprefix("\ufeff")
    plain, wrong_json = _json(text)
    try:
        root = yaml.compose(text if plain is None else plain, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise wrong_json_or(wrong_json, _marked(error), name) from None
    except yaml.YAMLError as error:
        raise wrong_json_or(wrong_json, _unreadable(text, error), name) from None
    except RecursionError:
        raise ManifestError(f"{name} is nested too deep to be a manifest.") from None
    return Document(None if root is None or _is_nothing(root) else root, plain is not None)


def wrong_json_or(json_error: str | None, yaml_error: str, name: str) -> ManifestError:
    """Return the error of a text that begins as JSON does, or of one in YAML."""
    if json_error is not None:
        return ManifestError(f"{name} cannot be read as JSON: {json_error}.")
    return ManifestError(f"{name} cannot be read as YAML: {yaml_error}.")


def _is_nothing(root: Any) -> bool:
    return bool(root.tag == f"{_TAG}null")


def _json(text: str) -> tuple[str | None, str | None]:
    """Return JSON in a form that YAML reads in the same way, or else what is wrong with it."""
    if not text.lstrip().startswith(("{", "[")):
        return None, None
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return None, f"line {error.lineno}, column {error.colno}: {error.msg}"
    except ValueError as error:  # a number of thousands of digits
        return None, str(error)
    except RecursionError:
        return None, "it is nested too deep"
    # Beyond ASCII there is nothing but in texts, and tabs are never in them.
    return _BEYOND_ASCII.sub(_escaped, text.replace("\t", " ")), None


def _escaped(found: re.Match[str]) -> str:
    return f"\\U{ord(found[0]):08x}"


def _marked(error: Any) -> str:
    mark = error.problem_mark or error.context_mark
    context = f" ({error.context})" if error.context else ""
    # PyYAML ends a bare text within braces at a question mark, which YAML allows there.
    hint = "; a URL with a ? has to stand in quotes here" if "'?'" in str(error.problem) else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}{context}{hint}"


def _unreadable(text: str, error: Any) -> str:
    position = getattr(error, "position", 0)
    line = text.count("\n", 0, position) + 1
    return f"line {line}: {getattr(error, 'reason', error)}"
