"""From what was declared of an input to what it takes, by ComfyUI's own definition of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .base import Surroundings
from .declared import Declared, Target
from .definitions import (
    ADDRESSED,
    MEDIA,
    NUMBERS,
    TEXTS,
    Defined,
    defined,
    is_link,
    literal,
    names_of,
    spec_of,
)
from .fields import InputField, Missing, Place, WrongValue, listed
from .graph_file import GraphFile
from .marks import plain_title

_FITTING: Mapping[str, Sequence[str]] = {
    "string": (*TEXTS, "enum"),
    "integer": ("integer", "seed", "enum"),
    "number": ("number", "integer", "seed", "enum"),
    "boolean": ("boolean", "enum"),
    "enum": ("enum", *TEXTS),
    "model": ("model", "string", "enum"),
    **dict.fromkeys(MEDIA, (*MEDIA, "string")),
}
"""The types that may be declared for an input of each kind."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A place in a graph, with what is there and what may be there."""

    target: Target
    place: Place
    class_type: str
    defined: Defined
    value: Any


def resolve(file: GraphFile, surroundings: Surroundings) -> dict[str, InputField]:
    """Return the inputs of a graph.

    Raises:
        WorkflowFileError: One does not fit the graph, or ComfyUI's definition; says where.
    """
    fields: dict[str, InputField] = {}
    owners: dict[Place, str] = {}
    for declared in file.declared.inputs:
        found = [_find(declared, target, file, surroundings) for target in declared.targets]
        for each in found:
            owner = owners.setdefault(each.place, declared.name)
            if owner != declared.name or [f.place for f in found].count(each.place) > 1:
                raise declared.wrong(
                    f"{each.place.input} of node {each.place.node} is an input already"
                    + (f", {owner}" if owner != declared.name else "")
                )
        fields[declared.name] = _field(declared, found, file)
    return fields


def _find(
    declared: Declared, target: Target, file: GraphFile, surroundings: Surroundings
) -> _Found:
    setting = "to" if "to" in declared.said else "node"
    node = file.graph.get(target.node)
    if node is None:
        raise declared.wrong(
            f"the graph has no node {target.node}; it has {listed(list(file.graph))}", setting
        )
    class_type, inputs = node["class_type"], node["inputs"]
    definition = surroundings.definitions.get(class_type)
    name = target.input or _only_widget(declared, target, file, definition)
    setting = setting if setting == "to" else "input"
    where = f"{name} of node {target.node} ({class_type})"
    value = literal(inputs.get(name))
    if is_link(inputs.get(name)):
        raise declared.wrong(f"{where} gets its value over a link from another node", setting)
    spec = spec_of(definition, name)
    if spec is None and name not in inputs:
        widgets = _widgets(inputs, definition)
        raise declared.wrong(
            f"node {target.node} ({class_type}) has no input {name}; it has {listed(widgets)}",
            setting,
        )
    known = defined(spec, surroundings.files.get(class_type, {}).get(name), value)
    if known is None:
        raise declared.wrong(f"{where} takes its value over a link only", setting)
    return _Found(target, Place(target.node, name), class_type, known, value)


def _only_widget(
    declared: Declared, target: Target, file: GraphFile, definition: Mapping[str, Any] | None
) -> str:
    """Return the input that a mark without one means: of its own name, or the only one."""
    node = file.graph[target.node]
    widgets = _widgets(node["inputs"], definition)
    if declared.name in widgets:
        return declared.name
    if len(widgets) == 1:
        return widgets[0]
    if not file.has_marks:
        raise declared.wrong("`input` must name the input of the node", "node")
    raise declared.wrong(
        f"node {target.node} ({node['class_type']}) has no widget {declared.name}, and not exactly "
        f"one; say which with @{declared.name}=<widget>: {listed(widgets) or 'there is none'}"
    )


def _widgets(inputs: Mapping[str, Any], definition: Mapping[str, Any] | None) -> list[str]:
    """Return the inputs of a node that have a value of their own."""
    names = names_of(definition) or list(inputs)
    return [n for n in names if n in inputs and not is_link(inputs[n])] or [
        n for n in inputs if not is_link(inputs[n])
    ]


def _field(declared: Declared, found: Sequence[_Found], file: GraphFile) -> InputField:
    known = _common(declared, found)
    said = declared.said
    kind = _kind(declared, known)
    field = InputField(
        name=declared.name,
        kind=kind,
        places=tuple(each.place for each in found),
        minimum=_limit(declared, "minimum", known, kind),
        maximum=_limit(declared, "maximum", known, kind),
        multiple_of=_multiple_of(declared, found, known, kind),
        options=_options(declared, known, kind),
        max_length=_max_length(declared, kind),
        is_many=known.is_many or known.is_folder,
        title=said.get("title"),
        description=said.get("description") or known.description or _title(found, file),
    )
    if None not in (field.minimum, field.maximum) and (field.minimum or 0) > (field.maximum or 0):
        raise declared.wrong("is more than the maximum", "minimum")
    return _with_default(declared, found, known, field)


def _common(declared: Declared, found: Sequence[_Found]) -> Defined:
    """Return what all places of an input take."""
    first = found[0].defined
    for each in found[1:]:
        other = each.defined
        if (other.kind, other.is_many) != (first.kind, first.is_many):
            raise declared.wrong(
                f"its places take different values: {first.kind} and {other.kind}", "to"
            )
        first = replace(
            first,
            minimum=_strictest(max, first.minimum, other.minimum),
            maximum=_strictest(min, first.maximum, other.maximum),
            options=tuple(o for o in first.options if o in other.options),
        )
    return first


def _kind(declared: Declared, known: Defined) -> str:
    kind = declared.said.get("type", "enum" if "enum" in declared.said else known.kind)
    fitting = _FITTING.get(known.kind)
    if fitting is not None and kind not in fitting:
        raise declared.wrong(f"the input takes {known.kind}, not {kind}", "type")
    if kind != "enum" or known.kind == "enum":
        return str(kind)
    if "enum" not in declared.said:
        raise declared.wrong("an enum of this input needs its values in `enum`", "type")
    return known.kind  # with options: these are checked by their own type


def _limit(declared: Declared, name: str, known: Defined, kind: str) -> float | None:
    own: float | None = known.minimum if name == "minimum" else known.maximum
    said = declared.said.get(name)
    if said is None:
        return _whole(own, kind)
    if kind not in NUMBERS:
        raise declared.wrong(f"is for numbers, and this input is {kind}", name)
    is_outside = own is not None and (said < own if name == "minimum" else said > own)
    if is_outside:
        raise declared.wrong(f"ComfyUI's own {name} of this input is {own:g}", name)
    return _whole(said, kind)


def _whole(value: float | None, kind: str) -> float | None:
    is_whole = value is not None and kind in ("integer", "seed") and float(value).is_integer()
    return int(value) if is_whole and value is not None else value


def _multiple_of(
    declared: Declared, found: Sequence[_Found], known: Defined, kind: str
) -> float | None:
    said = declared.said.get("multiple_of")
    if said is not None:
        if kind not in NUMBERS:
            raise declared.wrong(f"is for numbers, and this input is {kind}", "multiple_of")
        return None if said == 1 and kind != "number" else _whole(said, kind)
    step = known.step
    if kind != "integer" or step is None or step <= 1 or not float(step).is_integer():
        return None
    # A graph that does not keep to the step of the editor is not bound by it.
    kept = [known.minimum or 0, *(f.value for f in found if isinstance(f.value, (int, float)))]
    return int(step) if all(value % step == 0 for value in kept) else None


def _options(declared: Declared, known: Defined, kind: str) -> tuple[Any, ...]:
    own = () if kind in MEDIA else known.options
    said = declared.said.get("enum")
    if said is None:
        return own
    if kind in ADDRESSED:
        raise declared.wrong(f"does not go with type {kind}", "enum")
    for option in said:
        if own and option not in own:
            raise declared.wrong(f"{option} is not among ComfyUI's own: {listed(own)}", "enum")
    return tuple(said)


def _max_length(declared: Declared, kind: str) -> int | None:
    said: int | None = declared.said.get("max_length")
    if said is not None and kind not in TEXTS:
        raise declared.wrong(f"is for text, and this input is {kind}", "max_length")
    return said


def _with_default(
    declared: Declared, found: Sequence[_Found], known: Defined, field: InputField
) -> InputField:
    said = declared.said
    if "example" in said:
        _require_fit(declared, field, said["example"], "example")
        field = replace(field, example=said["example"])
    if "default" in said:
        default = _as_number(said["default"], field.kind)
        _require_fit(declared, field, default, "default")
        return replace(field, default=default)
    own = next((each.value for each in found if each.value is not None), known.default)
    if isinstance(field.example, Missing) and own is not None:
        field = replace(field, example=own)
    if said.get("required"):
        return replace(field, required=True)
    if field.kind == "seed" or own is None:
        return field
    return _with_own_default(declared, field, _as_number(own, field.kind))


def _with_own_default(declared: Declared, field: InputField, own: Any) -> InputField:
    """Take the graph's value, or ComfyUI's, for the default, if callers could give it too."""
    if field.kind in ADDRESSED:
        return replace(field, default=own)
    if field.kind == "enum" and own not in field.options and "enum" not in declared.said:
        return replace(field, required=True)  # a file of another machine's, say
    _require_fit(declared, field, own, "")
    return replace(field, default=own)


def _require_fit(declared: Declared, field: InputField, value: Any, setting: str) -> None:
    if field.kind == "model":
        return  # it may come later, or be on another machine only
    try:
        field.check(value)
    except WrongValue as error:
        what = "" if setting else "the graph's own value "
        raise declared.wrong(f"{what}{error}", setting) from None


def _as_number(value: Any, kind: str) -> Any:
    is_whole = isinstance(value, float) and value.is_integer()
    return int(value) if is_whole and kind in ("integer", "seed") else value


def _title(found: Sequence[_Found], file: GraphFile) -> str | None:
    """Return what the author has called the node, if that is more than its marks."""
    return plain_title(file.graph[found[0].target.node]) or None if file.has_marks else None


def _strictest(choose: Any, one: float | None, other: float | None) -> float | None:
    known = [limit for limit in (one, other) if limit is not None]
    return choose(known) if known else None
