"""What ComfyUI's definition of an input says of the values that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..engine import FileInput, MediaInput, ModelInput, RepositoryInput
from .base import JsonObject

WRAPPED = "__value__"
"""How ComfyUI's editor wraps a literal list; a plain list would be taken for a link."""

MEDIA = ("image", "mask", "video", "audio", "file")
"""Kinds of inputs that take a URL, a data URL, base64, or the name of an upload."""

ADDRESSED = (*MEDIA, "model")
"""Kinds of inputs that take URLs."""

TEXTS = ("string", *ADDRESSED)
NUMBERS = ("integer", "number", "seed")

LARGEST = 1.7e308
"""Beyond it is no number: an integer of more digits is one that no float can hold."""

_SCALARS = {"INT": "integer", "FLOAT": "number", "STRING": "string", "BOOLEAN": "boolean"}


@dataclass(frozen=True, slots=True)
class Defined:
    """What is known of an input.

    Attributes:
        kind: ``string``, ``integer``, ``number``, ``boolean``, ``enum``, ``model``, one of ``MEDIA``,
            or ``any`` where ComfyUI says nothing of its values.
        options: What it offers now; empty where that is not known.
        default: ComfyUI's own, None for none.
        is_many: Whether it takes several of the options, as a list.
        is_folder: Whether it takes several files, as a list.
    """

    kind: str
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    options: tuple[Any, ...] = ()
    default: Any = None
    description: str | None = None
    is_many: bool = False
    is_folder: bool = False


def defined(spec: Any, slot: FileInput | None, value: Any) -> Defined | None:
    """Return what is known of an input, None if it takes nothing but links.

    Args:
        spec: Its type, and mostly its settings, as ComfyUI's definition has them; None where
            ComfyUI defines no such input.
        slot: What kind of files it names, if any.
        value: What the graph has there, None for nothing.
    """
    kind = spec[0] if isinstance(spec, (list, tuple)) and spec else None
    settings = spec[1] if kind is not None and len(spec) > 1 else {}
    settings = settings if isinstance(settings, dict) else {}
    options = _options(kind, settings)
    if options is not None:
        return _choice(options, slot, settings)
    name = _scalar(kind)
    if name is None:
        return None if value is None else Defined(_kind_of(value))
    return Defined(
        name,
        minimum=_number(settings.get("min")),
        maximum=_number(settings.get("max")),
        step=_number(settings.get("step")),
        default=settings.get("default"),
        description=_text(settings.get("tooltip")),
        is_folder=False,
    )


def is_link(value: Any) -> bool:
    """Say whether ComfyUI takes a value for a link to another node."""
    return isinstance(value, list)


def literal(value: Any) -> Any:
    """Return a value as its author thinks of it, out of the editor's wrapping."""
    if isinstance(value, dict) and set(value) == {WRAPPED}:
        return value[WRAPPED]
    return value


def spec_of(definition: JsonObject | None, name: str) -> Any:
    """Return what a class's definition says of an input, None if nothing."""
    inputs = (definition or {}).get("input") or {}
    for section in ("required", "optional"):
        if name in (inputs.get(section) or {}):
            return inputs[section][name]
    return None


def names_of(definition: JsonObject | None) -> list[str]:
    """Return the names of a class's inputs."""
    inputs = (definition or {}).get("input") or {}
    return [name for part in ("required", "optional") for name in inputs.get(part) or {}]


def _options(kind: Any, settings: Mapping[str, Any]) -> list[Any] | None:
    """Return what an input offers, None for one that offers no choice."""
    is_combo = kind == "COMBO" or (isinstance(kind, str) and kind.startswith("COMFY_DYNAMICCOMBO"))
    found = settings.get("options") if is_combo else kind
    if is_combo and not isinstance(found, list):
        return []
    if not isinstance(found, (list, tuple)):
        return None
    return [option.get("key", option) if isinstance(option, dict) else option for option in found]


def _choice(options: list[Any], slot: FileInput | None, settings: Mapping[str, Any]) -> Defined:
    is_model = isinstance(slot, (ModelInput, RepositoryInput))
    kind = "model" if is_model else "enum"
    is_folder = False
    if isinstance(slot, MediaInput):
        kind, is_folder = _media_kind(settings), "folder" in slot.form.value
    return Defined(
        kind,
        options=tuple(options),
        default=settings.get("default"),
        description=_text(settings.get("tooltip")),
        is_many=settings.get("multiselect") is True or "multi_select" in settings,
        is_folder=is_folder,
    )


def _media_kind(settings: Mapping[str, Any]) -> str:
    for kind in ("image", "video", "audio"):
        if settings.get(f"{kind}_upload") is True:
            return kind
    return "file"


def _scalar(kind: Any) -> str | None:
    if not isinstance(kind, str):
        return None
    names = {_SCALARS.get(part.strip()) for part in kind.split(",")}
    if names == {"integer", "number"}:
        return "number"
    return names.pop() if len(names) == 1 else None


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else "any"


def _number(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and abs(value) != float("inf") and value == value else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None
