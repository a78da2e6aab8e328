"""What the author of a graph's inputs has written down, in a YAML file or in a request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .base import WorkflowFileError
from .definitions import ADDRESSED, LARGEST, NUMBERS, TEXTS

KINDS = ("string", "integer", "number", "boolean", "seed", "enum", *ADDRESSED)
"""What ``type`` may be."""

TOP = ("summary", "description", "inputs")
PLACE = ("node", "input", "to")
TEXT_SETTINGS = ("title", "description")
NUMBER_SETTINGS = ("minimum", "maximum", "multiple_of")
SETTINGS = (
    *PLACE, "type", "default", "required", "enum", "max_length", "example",
    *NUMBER_SETTINGS, *TEXT_SETTINGS,
)  # fmt: skip

Path_ = tuple[str | int, ...]


class Target(NamedTuple):
    """Where a value goes: a node, and its input; None is the node's only one.

    Attributes:
        line: Of the file in which it stands.
    """

    node: str
    input: str | None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Declared:
    """One input as it was declared.

    Attributes:
        file: In which it stands.
        said: What was said of it, by the names of ``SETTINGS``.
        lines: Of these, and of the input itself under an empty name.
    """

    name: str
    file: Path
    targets: tuple[Target, ...]
    said: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, int | None] = field(default_factory=dict)

    def wrong(self, reason: str, setting: str = "") -> WorkflowFileError:
        """Return the error for something that is wrong with it, with its line."""
        line = self.lines.get(setting) or self.lines.get("")
        place = f"inputs.{self.name}.{setting}" if setting else f"inputs.{self.name}"
        return WorkflowFileError(self.file, f"{place}: {reason}", line)


class Declarations(NamedTuple):
    """All that was declared of a graph."""

    inputs: tuple[Declared, ...] = ()
    summary: str | None = None
    description: str | None = None


class Lines:
    """Where the parts of a document stand; and how they are spelled, which YAML may not keep."""

    def __init__(self) -> None:
        self._lines: dict[Path_, int] = {}
        self._spelled: dict[Path_, str] = {}

    def note(self, place: Path_, line: int, spelled: str | None = None) -> None:
        self._lines[place] = line
        if spelled is not None:
            self._spelled[place] = spelled

    def line(self, *place: str | int) -> int | None:
        return self._lines.get(place)

    def spelled(self, value: Any, *place: str | int) -> str:
        """Return a name as it is spelled: YAML makes the number 3428 of ``57:8``."""
        return self._spelled.get(place, str(value))


def declarations(said: Any, file: Path, lines: Lines) -> Declarations:
    """Return what a document declares.

    Args:
        said: The document, in JSON values.
        file: Where it stands, for messages.

    Raises:
        WorkflowFileError: It is no such document; says where.
    """
    if not isinstance(said, dict):
        raise WorkflowFileError(file, "it must be a mapping with `inputs`", lines.line())
    _require_known(said, TOP, file, lines, ())
    inputs = said.get("inputs")
    if inputs is not None and not isinstance(inputs, dict):
        raise WorkflowFileError(file, "inputs: must be a mapping of names", lines.line("inputs"))
    return Declarations(
        tuple(
            _declared(str(name), name, entry, file, lines) for name, entry in (inputs or {}).items()
        ),
        _text(said, "summary", file, lines),
        _text(said, "description", file, lines),
    )


def _declared(name: str, key: Any, entry: Any, file: Path, lines: Lines) -> Declared:
    start = lines.line("inputs", key)
    if not isinstance(key, str) or not name.strip() or len(name) > 100:
        raise WorkflowFileError(
            file, f"inputs: {name!r} is no name; it must be text of 1 to 100 characters", start
        )
    if not isinstance(entry, dict):
        raise WorkflowFileError(
            file, f"inputs.{name}: must be a mapping with `node` and `input`", start
        )
    _require_known(entry, SETTINGS, file, lines, ("inputs", name))
    places = {setting: lines.line("inputs", name, setting) for setting in entry}
    draft = Declared(name, file, (), entry, {"": start, **places})
    _check_settings(draft)
    targets = tuple(_targets(draft, lines))
    return Declared(name, file, targets, _numeric(draft), draft.lines)


def _targets(draft: Declared, lines: Lines) -> Iterator[Target]:
    if "to" not in draft.said:
        yield _target(draft, draft.said, ("inputs", draft.name), lines, "node")
        return
    if "node" in draft.said or "input" in draft.said:
        raise draft.wrong("`to` stands in place of `node` and `input`", "to")
    entries = draft.said["to"]
    if not isinstance(entries, list) or not entries:
        raise draft.wrong("must be a list of `{node, input}`", "to")
    for number, entry in enumerate(entries):
        place: Path_ = ("inputs", draft.name, "to", number)
        if not isinstance(entry, dict) or set(entry) - {"node", "input"}:
            raise draft.wrong("must be a list of `{node, input}`", "to")
        yield _target(draft, entry, place, lines, "to")


def _target(
    draft: Declared, entry: Mapping[str, Any], place: Path_, lines: Lines, setting: str
) -> Target:
    node, name = entry.get("node"), entry.get("input")
    if isinstance(node, bool) or not isinstance(node, (str, int)):
        raise draft.wrong("`node` must be the id of a node", setting)
    if name is not None and not isinstance(name, str):
        raise draft.wrong("`input` must be the name of the node's input", setting)
    line = lines.line(*place, "node") or lines.line(*place)
    return Target(lines.spelled(node, *place, "node"), name, line)


def _check_settings(draft: Declared) -> None:
    said = draft.said
    if "type" in said and said["type"] not in KINDS:
        raise draft.wrong(f"must be one of {', '.join(KINDS)}", "type")
    for name in TEXT_SETTINGS:
        if name in said and not isinstance(said[name], str):
            raise draft.wrong("must be text", name)
    if not isinstance(said.get("required", False), bool):
        raise draft.wrong("must be true or false", "required")
    if said.get("required") and "default" in said:
        raise draft.wrong("a required input has no default", "default")
    _check_numbers(draft)
    _check_enum(draft)


def _check_numbers(draft: Declared) -> None:
    said = draft.said
    for name in NUMBER_SETTINGS:
        if name in said and not _is_number(said[name]):
            raise draft.wrong("must be a number", name)
    if "multiple_of" in said and said["multiple_of"] <= 0:
        raise draft.wrong("must be more than 0", "multiple_of")
    length = said.get("max_length", 0)
    if isinstance(length, bool) or not isinstance(length, int) or length < 0:
        raise draft.wrong("must be a number of characters", "max_length")


def _check_enum(draft: Declared) -> None:
    if "enum" not in draft.said:
        return
    options = draft.said["enum"]
    is_list = isinstance(options, list) and options
    if not is_list or not all(isinstance(o, (str, bool, int, float)) for o in options):
        raise draft.wrong("must be a list of values", "enum")
    if draft.said.get("type") in TEXTS and not all(isinstance(o, str) for o in options):
        raise draft.wrong("must be a list of strings: put quotes around them", "enum")


def _numeric(draft: Declared) -> Mapping[str, Any]:
    """Return what was said, with numbers that YAML takes for text, such as 1e-3, as numbers."""
    default = draft.said.get("default")
    if draft.said.get("type") not in NUMBERS or not isinstance(default, str):
        return draft.said
    try:
        return {**draft.said, "default": float(default)}
    except ValueError:
        return draft.said


def _require_known(
    said: Mapping[Any, Any], known: Sequence[str], file: Path, lines: Lines, place: Path_
) -> None:
    for name in said:
        if name not in known:
            where = ".".join(str(part) for part in (*place, name))
            raise WorkflowFileError(
                file, f"{where}: is not known; there are {', '.join(known)}",
                lines.line(*place, name),
            )  # fmt: skip


def _text(said: Mapping[str, Any], name: str, file: Path, lines: Lines) -> str | None:
    value = said.get(name)
    if value is not None and not isinstance(value, str):
        raise WorkflowFileError(file, f"{name}: must be text", lines.line(name))
    return value or None


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) <= LARGEST  # NaN is not
