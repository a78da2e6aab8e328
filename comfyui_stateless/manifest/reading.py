"""From a manifest's text to its entries, or to all that is wrong with it, line by line."""

from __future__ import annotations

import difflib
import logging
import posixpath
import re
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import ManifestError
from . import checks
from .document import Document, compose
from .entries import Entry, Manifest, ModelEntry, NodeEntry

log = logging.getLogger("comfyui_stateless.manifest")

TOP = ("apt", "pip", "custom_nodes", "models")
MODELS = ("before_start", "after_start")
MODEL = ("url", "local_path", "sha256")
REQUIRED = ("url", "local_path")

_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")

T = TypeVar("T")


def read(text: str, *, name: str) -> Manifest:
    """Read a manifest, in YAML or JSON.

    Args:
        name: What it was read from, for messages: ``MANIFEST_JSON`` or the path of a file.

    Raises:
        ManifestError: Lists every wrong entry with its line, what is wrong and what is expected.
    """
    reader = _Reader(name, compose(text, name))
    manifest = reader.manifest()
    if reader.problems:
        raise _error(name, reader.problems)
    for warning in manifest.warnings:
        log.warning("%s", warning)
    return manifest


def _error(name: str, problems: list[tuple[int, str, str]]) -> ManifestError:
    problems = sorted(set(problems))
    lines = [f"{name}, line {line}, {path}: {reason}." for line, path, reason in problems]
    entries = [{"line": line, "path": path, "error": reason} for line, path, reason in problems]
    return ManifestError(
        "The manifest is wrong.\n" + "\n".join(lines), details={"entries": entries}
    )


class _Reader:
    """Reads one manifest, and goes on where something is wrong.

    Attributes:
        problems: The line, the path and the reason of each wrong entry.
    """

    def __init__(self, name: str, document: Document) -> None:
        self.problems: list[tuple[int, str, str]] = []
        self._name = name
        self._document = document
        self._warnings: list[str] = []

    def manifest(self) -> Manifest:
        root = self._document.root
        if root is None:
            return Manifest(self._name)
        top = self._mapping(root, "", TOP)
        models = self._mapping(top.get("models"), "models", MODELS)
        nodes = self._nodes(top.get("custom_nodes"))
        before, after = (self._models(models.get(key), f"models.{key}") for key in MODELS)
        self._require_different_paths(before + after)
        return Manifest(
            self._name,
            self._texts(top.get("apt"), "apt", checks.apt_package),
            self._texts(top.get("pip"), "pip", checks.requirement),
            nodes,
            before,
            after,
            tuple(self._warnings),
        )

    def _texts(self, node: Any, path: str, check: Callable[[str], str]) -> tuple[Entry, ...]:
        return tuple(
            Entry(text, self._name, self._document.line(item), place)
            for item, place in self._items(node, path)
            if (text := self._checked(item, place, check)) is not None
        )

    def _nodes(self, node: Any) -> tuple[NodeEntry, ...]:
        entries: dict[str, NodeEntry] = {}
        for item, path in self._items(node, "custom_nodes"):
            said = self._checked(item, path, checks.custom_node)
            if said is None:
                continue
            line = self._document.line(item)
            entry = NodeEntry(
                said.text, self._name, line, path, said.name, said.clone_url, said.ref, said.login
            )
            first = entries.setdefault(said.name.lower(), entry)
            if first is not entry:
                self._problem(item, path, f"it is the same custom node as in line {first.line}")
        return tuple(entries.values())

    def _models(self, node: Any, path: str) -> tuple[ModelEntry, ...]:
        found = (self._model(item, place) for item, place in self._items(node, path))
        return tuple(entry for entry in found if entry is not None)

    def _model(self, node: Any, path: str) -> ModelEntry | None:
        before = len(self.problems)
        fields = self._mapping(node, path, MODEL)
        for key in REQUIRED if len(self.problems) == before else ():
            if key not in fields:
                self._problem(node, path, f"it has no {key}")
        url = self._field(fields, path, "url", checks.model_url)
        local_path = self._field(fields, path, "local_path", checks.local_path)
        sha256 = self._field(fields, path, "sha256", checks.sha256)
        if url is None or local_path is None or len(self.problems) > before:
            return None
        line = self._document.line(node)
        return ModelEntry(url, self._name, line, path, local_path, sha256)

    def _field(
        self, fields: dict[str, Any], path: str, key: str, check: Callable[[str], str]
    ) -> str | None:
        node = fields.get(key)
        if node is None or (key not in REQUIRED and self._document.is_null(node)):
            return None
        return self._checked(node, f"{path}.{key}", check)

    def _require_different_paths(self, models: tuple[ModelEntry, ...]) -> None:
        first: dict[str, ModelEntry] = {}
        for entry in models:
            other = first.setdefault(posixpath.normpath(entry.local_path), entry)
            if other is not entry:
                reason = f"its local_path is that of {other.path} in line {other.line}"
                self.problems.append((entry.line, entry.path, reason))

    def _checked(self, node: Any, path: str, check: Callable[[str], T]) -> T | None:
        """Return what ``check`` makes of a text, None where it is wrong."""
        text = self._document.text(node)
        if text is None:
            what = self._document.what(node)
            self._problem(node, path, f"it is {what}, and has to be a text")
            return None
        try:
            if not text.strip():
                raise ValueError("it is empty")
            if _CONTROL.search(text.strip()):
                raise ValueError("it holds a line break or another control character")
            return check(text.strip())
        except ValueError as error:
            self._problem(node, path, str(error))
            return None

    def _items(self, node: Any, path: str) -> list[tuple[Any, str]]:
        if node is None or self._document.is_null(node):
            return []
        items = self._document.items(node)
        if items is None:
            self._problem(node, path, f"it is {self._document.what(node)}, and has to be a list")
        return [(item, f"{path}[{index}]") for index, item in enumerate(items or ())]

    def _mapping(self, node: Any, path: str, known: tuple[str, ...]) -> dict[str, Any]:
        """Return the values of the known keys; say what is wrong with the others."""
        if node is None or (self._document.is_null(node) and "[" not in path):
            return {}
        pairs = self._document.pairs(node)
        if pairs is None:
            what = self._document.what(node)
            self._problem(
                node, path, f"it is {what}, and has to be a mapping of {', '.join(known)}"
            )
            return {}
        found: dict[str, Any] = {}
        for key, value in pairs:
            self._add(found, key, value, path, known)
        return {**self._document.merged(node), **found}

    def _add(
        self, found: dict[str, Any], key: Any, value: Any, path: str, known: tuple[str, ...]
    ) -> None:
        name = self._document.text(key)
        place = f"{path}.{name}".lstrip(".")
        if name is None:
            self._problem(key, path, f"{self._document.what(key)} is no key: {', '.join(known)}")
        elif name in found:
            first = self._document.line(found[name])
            self._problem(key, place, f"it stands there a second time, after line {first}")
        elif name in known:
            found[name] = value
        elif close := difflib.get_close_matches(name.lower().replace("-", "_"), known, 1):
            self._problem(key, place, f"there is no such key; {close[0]} may be meant")
        else:
            line = self._document.line(key)
            expected = ", ".join(known)
            self._warnings.append(
                f"{self._name}, line {line}, {place}: the key is unknown and has no effect; "
                f"known are {expected}."
            )

    def _problem(self, node: Any, path: str, reason: str) -> None:
        self.problems.append((self._document.line(node), path or "(all)", reason))
