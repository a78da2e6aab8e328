"""What a workflow endpoint is, whatever it was written in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from ..engine import FileInput

JsonObject = Mapping[str, Any]


class Built(NamedTuple):
    """What one call of an endpoint became.

    Attributes:
        graph: The graph to run, in the API format.
        input: What was given, with every default filled in (a drawn seed too): the reply's ``input``.
    """

    graph: JsonObject
    input: JsonObject


class Description(NamedTuple):
    """What the OpenAPI document and ``GET /workflow`` say of an endpoint.

    Attributes:
        schema: The JSON Schema (2020-12) of ``input``: an object with its properties.
        example: An ``input`` that works, if there is one.
    """

    schema: JsonObject
    summary: str | None = None
    description: str | None = None
    example: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What workflow files are told of the ComfyUI that they are for.

    Attributes:
        samplers: The names that a KSampler takes.
        schedulers: The same of schedulers.
        models: Model folder → the names in it now.
        warmup_checkpoint: The checkpoint that the warm-up prompt loads, if it names one.
        definitions: class_type → ComfyUI's definition of its inputs, as ``GET /object_info`` has it,
            for the classes that the graphs among the files have.
        files: class_type → its inputs that name files, for the same classes.
    """

    samplers: Sequence[str] = ()
    schedulers: Sequence[str] = ()
    models: Mapping[str, Sequence[str]] = field(default_factory=dict)
    warmup_checkpoint: str | None = None
    definitions: Mapping[str, JsonObject] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, FileInput]] = field(default_factory=dict)


class WorkflowFileError(Exception):
    """A workflow file cannot become an endpoint. No response: it is logged and listed.

    Args:
        file: The file that is wrong.
        reason: One sentence that its author can act on.
        line: The line of ``file`` that it is about, counted from 1, None where there is none.
        neighbours: Other files whose change may mend it.
    """

    def __init__(
        self,
        file: Path,
        reason: str,
        line: int | None = None,
        neighbours: Sequence[Path] = (),
    ) -> None:
        super().__init__(file, reason, line)
        self.file = file
        self.reason = reason
        self.line = line
        self.neighbours = tuple(neighbours)

    def __str__(self) -> str:
        place = str(self.file) if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.reason}"


class Endpoint(Protocol):
    """One file that became ``POST /workflow/<path>``."""

    @property
    def source(self) -> Path:
        """The file that it comes from."""

    @property
    def description(self) -> Description:
        """What it takes, and what it is for."""

    async def build(self, given: JsonObject) -> Built:
        """Check ``given`` and make the graph of it.

        Raises:
            StatelessError: A value is wrong (400, ``location`` is ``input.<name>``), or the file's
                own code failed or took too long (``WorkflowFailed``, the message names the file).
        """


@runtime_checkable
class Renewable(Protocol):
    """An endpoint that need not be loaded again when ComfyUI's lists have changed."""

    async def renewed(self, surroundings: Surroundings) -> Endpoint:
        """Return the endpoint of the same file as it was read, for other surroundings.

        Raises:
            WorkflowFileError: The file does not fit them.
        """


@runtime_checkable
class HasDefinition(Protocol):
    """An endpoint without code, whose author may want to go on with it."""

    @property
    def definition(self) -> JsonObject:
        """``graph``, and ``inputs`` as a YAML file has them."""


@runtime_checkable
class HasNeighbours(Protocol):
    """An endpoint that is loaded again when a file beside its own changes."""

    @property
    def neighbours(self) -> Sequence[Path]:
        """The other files that its own has loaded."""
