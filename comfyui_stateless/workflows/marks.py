"""``@name`` marks in the titles of a graph's nodes, which make inputs of their widgets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .base import JsonObject

_MARK = re.compile(
    r"(?<!\S)@(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:=(?P<widget>[A-Za-z_][\w.]*))?(?!\S)"
)

_BROKEN = re.compile(r"(?<!\S)@\S*")


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark: the name of the input, and of the widget where that is said."""

    name: str
    widget: str | None


def marks_of(node: JsonObject) -> tuple[Mark, ...]:
    """Return the marks in a node's title."""
    return tuple(Mark(m["name"], m["widget"]) for m in _MARK.finditer(title_of(node)))


def broken_marks_of(node: JsonObject) -> list[str]:
    """Return what looks like a mark in a node's title and is none."""
    return _BROKEN.findall(_MARK.sub(" ", title_of(node)))


def plain_title(node: JsonObject) -> str:
    """Return a node's title without its marks."""
    return " ".join(_MARK.sub(" ", title_of(node)).split())


def title_of(node: JsonObject) -> str:
    """Return a node's title, empty if it has none."""
    meta = node.get("_meta")
    title = meta.get("title") if isinstance(meta, Mapping) else None
    return title if isinstance(title, str) else ""
