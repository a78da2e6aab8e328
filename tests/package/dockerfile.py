"""Reading Dockerfiles: stages, and the instructions in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_CONTINUED = re.compile(r"\\\n(?:\s*#[^\n]*\n)*")
_FROM = re.compile(r"(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


@dataclass(frozen=True)
class Instruction:
    """A line of a Dockerfile, continuations included."""

    word: str
    text: str

    @property
    def flags(self) -> dict[str, str]:
        """The options in front, such as ``--from=wheel``."""
        found = re.match(r"(?:--\S+\s+)*", self.text)
        words = found[0].split() if found else []
        return dict(word.removeprefix("--").split("=", 1) for word in words)

    @property
    def arguments(self) -> list[str]:
        """The words behind the options."""
        return [word for word in shlex.split(self.text) if not word.startswith("--")]


@dataclass
class Stage:
    """What lies between two FROMs; ``name`` is empty where it has none."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, word: str) -> list[Instruction]:
        return [each for each in self.instructions if each.word == word]


@dataclass(frozen=True)
class Dockerfile:
    """A Dockerfile: the ARGs in front, and the stages."""

    arguments: Mapping[str, str]
    stages: list[Stage]

    @property
    def defaults(self) -> dict[str, str]:
        """Every ARG with its default."""
        own = (each.text for stage in self.stages for each in stage.all("ARG"))
        return {**dict(map(_argument, own)), **self.arguments}


def _argument(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value.strip('"')


def read(path: Path) -> Dockerfile:
    """Read a Dockerfile."""
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in _CONTINUED.sub(" ", path.read_text()).splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        word, _, text = line.strip().partition(" ")
        if word == "FROM":
            base, name = _FROM.fullmatch(text).groups()  # type: ignore[union-attr]
            stages.append(Stage(base, name or ""))
        elif stages:
            stages[-1].instructions.append(Instruction(word, text.strip()))
        else:
            arguments.update([_argument(text)])
    return Dockerfile(arguments, stages)


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its variables replaced by their values."""
    return _VARIABLE.sub(lambda found: values[found[1] or found[2]], text)
