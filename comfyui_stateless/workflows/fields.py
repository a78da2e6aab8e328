"""The named inputs of a graph: what values they take, and what documentation says of them."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..inputs.wanted import UPLOAD, is_address
from .definitions import ADDRESSED, LARGEST, MEDIA, NUMBERS, TEXTS

LARGEST_DRAWN = 2**53 - 1
"""The largest seed that is drawn: what every client's numbers can hold."""

MAX_LISTED = 30
"""Options that a message lists at most."""

_EXPECTED = {
    "string": "a string",
    "integer": "an integer",
    "seed": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "model": "a string: the name of a model, or a URL",
    **dict.fromkeys(MEDIA, "a string: a URL, a data URL, base64, or upload://<part>"),
}

_DESCRIBED = {
    "image": "An image: a URL, a data URL, base64, or `upload://<part>`.",
    "mask": "A mask: a URL, a data URL, base64, or `upload://<part>`.",
    "video": "A video: a URL, a data URL, base64, or `upload://<part>`.",
    "audio": "A sound: a URL, a data URL, base64, or `upload://<part>`.",
    "file": "A file: a URL, a data URL, base64, or `upload://<part>`.",
    "model": "The name of a model, or the URL of one.",
    "seed": "Drawn at random when left out.",
}


class WrongValue(Exception):
    """A value that an input does not take; the text says what it takes."""


class Missing:
    """Stands for a default that there is not."""


MISSING = Missing()


@dataclass(frozen=True, slots=True)
class Place:
    """An input of a node, which gets a value."""

    node: str
    input: str


@dataclass(frozen=True, slots=True)
class InputField:
    """One named input.

    Attributes:
        kind: As in ``Defined``, or ``seed``.
        places: Where its value goes.
        default: Its value when it is left out, ``MISSING`` where it is required or has none.
        options: The values that it takes; of a model those that are there now. Empty for no limit.
        is_many: Whether it takes a list of options, or of files.
    """

    name: str
    kind: str
    places: tuple[Place, ...]
    required: bool = False
    default: Any = MISSING
    minimum: float | None = None
    maximum: float | None = None
    multiple_of: float | None = None
    options: tuple[Any, ...] = ()
    max_length: int | None = None
    is_many: bool = False
    title: str | None = None
    description: str | None = None
    example: Any = MISSING

    def check(self, value: Any) -> None:
        """See that a value may be given.

        Raises:
            WrongValue: It may not; the text says why and names the limits.
        """
        if self.is_many and isinstance(value, list):
            for item in value:
                self._check_one(item)
        elif self.is_many and self.kind not in MEDIA:
            raise WrongValue("must be a list")
        else:
            self._check_one(value)

    def drawn(self) -> int:
        """Return a random seed within the limits."""
        low = 0 if self.minimum is None else math.ceil(self.minimum)
        high = LARGEST_DRAWN if self.maximum is None else math.floor(self.maximum)
        return random.randint(max(low, -LARGEST_DRAWN), max(low, min(high, LARGEST_DRAWN)))  # noqa: S311

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of its values."""
        said: dict[str, Any] = {"title": self.title} if self.title else {}
        if description := self._described():
            said["description"] = description
        said |= self._type()
        if not isinstance(self.default, Missing):
            said["default"] = self.default
        if not isinstance(self.example, Missing):
            said["examples"] = [self.example]
        return said

    def _described(self) -> str:
        usual = _DESCRIBED.get(self.kind, "")
        if not self.description:
            return usual
        is_said = self.kind == "seed" and "drawn" in self.description.lower()
        return self.description if is_said else f"{self.description} {usual}".strip()

    def _type(self) -> dict[str, Any]:
        one = self._type_of_one()
        if not self.is_many:
            return one
        many = {"type": "array", "items": one}
        return {"anyOf": [one, many]} if self.kind in MEDIA else many

    def _type_of_one(self) -> dict[str, Any]:
        if self.kind == "model":
            names = [{"enum": list(self.options)}] if self.options else []
            return {"type": "string", "anyOf": [*names, {"type": "string", "format": "uri"}]}
        said: dict[str, Any] = {}
        if self.kind in TEXTS:
            said = {"type": "string", "minLength": 1} if self.kind in MEDIA else {"type": "string"}
        elif self.kind in ("integer", "seed"):
            said = {"type": "integer"}
        elif self.kind in ("number", "boolean"):
            said = {"type": self.kind}
        if self.options and self.kind not in MEDIA:
            said["enum"] = list(self.options)
        limits = {
            "minimum": self.minimum,
            "maximum": self.maximum,
            "multipleOf": self.multiple_of,
            "maxLength": self.max_length,
        }
        return said | {name: limit for name, limit in limits.items() if limit is not None}

    def _check_one(self, value: Any) -> None:
        if not _is_of(self.kind, value):
            raise WrongValue(f"must be {self._expected()}, not {_named(value)}")
        if self.kind in ADDRESSED:
            self._check_address(value)
        elif self.options and not _is_among(value, self.options):
            raise WrongValue(f"must be one of {listed(self.options)}")
        if self.kind in NUMBERS:
            self._check_number(value)
        if isinstance(value, str) and self.max_length is not None and len(value) > self.max_length:
            raise WrongValue(f"has {len(value)} characters, and {self.max_length} are allowed")

    def _check_address(self, value: str) -> None:
        if not value.strip():
            raise WrongValue(f"is empty; it must be {self._expected()}")
        if self.kind != "model":
            return
        if value.startswith(UPLOAD):
            raise WrongValue("names an upload; a model cannot come with the request, give its URL")
        if not is_address(value) and not _is_among(value, self.options):
            there = listed(self.options) or "none is"
            raise WrongValue(f"must be the URL of a model, or one that is there: {there}")

    def _check_number(self, value: float) -> None:
        is_low = self.minimum is not None and value < self.minimum
        is_high = self.maximum is not None and value > self.maximum
        if is_low or is_high or not _is_multiple(value, self.multiple_of) or _is_huge(value):
            raise WrongValue(f"must be {self._expected()}, not {_shown(value)}")

    def _expected(self) -> str:
        what = _EXPECTED.get(self.kind, "a value")
        if self.kind == "enum":
            return f"one of {listed(self.options)}"
        if self.minimum is not None and self.maximum is not None:
            what += f" from {_shown(self.minimum)} to {_shown(self.maximum)}"
        elif self.minimum is not None:
            what += f" of {_shown(self.minimum)} or more"
        elif self.maximum is not None:
            what += f" of {_shown(self.maximum)} or less"
        return what if self.multiple_of is None else f"{what}, a multiple of {self.multiple_of:g}"


def listed(options: Sequence[Any]) -> str:
    """Return options as a message lists them."""
    shown = ", ".join(str(option) for option in options[:MAX_LISTED])
    left = len(options) - MAX_LISTED
    return shown if left <= 0 else f"{shown} and {left} more"


def object_schema(fields: Mapping[str, InputField]) -> dict[str, Any]:
    """Return the JSON Schema of an object with these fields and no others."""
    return {
        "type": "object",
        "properties": {name: field.schema() for name, field in fields.items()},
        "required": [name for name, field in fields.items() if field.required],
        "additionalProperties": False,
    }


def _is_of(kind: str, value: Any) -> bool:
    if kind in TEXTS:
        return isinstance(value, str)
    if kind in ("integer", "seed"):
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "boolean":
        return isinstance(value, bool)
    return value is not None


def _is_among(value: Any, options: Sequence[Any]) -> bool:
    """Say whether a value is one of the options; true is not 1 here."""
    return any(value == option and type(value) is type(option) for option in options)


def _is_multiple(value: float, unit: float | None) -> bool:
    if unit is None or _is_huge(value):
        return True
    if float(unit).is_integer():
        return value % int(unit) == 0
    return math.isclose(value / unit, round(value / unit), rel_tol=0, abs_tol=1e-6)


def _is_huge(value: float) -> bool:
    """Say whether a number is one that no float can hold."""
    return abs(value) > LARGEST


def _named(value: Any) -> str:
    if isinstance(value, (bool, int, float)):
        return _shown(value)
    names = {type(None): "null", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "something else")


def _shown(value: bool | float) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 40 else f"{text[:20]}… ({len(text)} digits)"
