"""What Python workflow files import: types for their ``RequestSchema``, and ComfyUI's own lists.

The lists are those of now, whenever they are looked at: a model that came a minute ago is in them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any, overload

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

from ..errors import RequestError
from ..inputs.wanted import UPLOAD, is_address
from .base import Surroundings
from .fields import LARGEST_DRAWN, listed

_surroundings: ContextVar[Surroundings] = ContextVar("workflow_surroundings")
_EMPTY = Surroundings()


@contextmanager
def using(surroundings: Surroundings) -> Iterator[None]:
    """Let the lists be those of ``surroundings`` inside the block."""
    token = _surroundings.set(surroundings)
    try:
        yield
    finally:
        _surroundings.reset(token)


def current() -> Surroundings:
    """Return the ComfyUI that the code at hand is for."""
    return _surroundings.get(_EMPTY)


class WrongInput(RequestError):
    """For ``generate_workflow`` to raise where it cannot do with its input: the answer is 400.

    Args:
        message: One sentence that the caller can act on.
        name: The input that is wrong, if it is one.
    """

    def __init__(self, message: str, name: str | None = None) -> None:
        super().__init__(message, location=f"input.{name}" if name else "input")


class Names(Sequence[str]):
    """A list that is looked up each time it is used.

    Args:
        lookup: Gives the names now.
    """

    def __init__(self, lookup: Callable[[], Sequence[str]]) -> None:
        self._lookup = lookup

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return self._lookup()[index]

    def __len__(self) -> int:
        return len(self._lookup())

    def __repr__(self) -> str:
        return repr(list(self._lookup()))


class ModelNames(Mapping[str, Names]):
    """The names in each model folder, by folder."""

    def __getitem__(self, folder: str) -> Names:
        if folder not in current().models:
            raise KeyError(f"ComfyUI has no model folder {folder}; it has {', '.join(self)}")
        return Names(lambda: current().models.get(folder, ()))

    def __iter__(self) -> Iterator[str]:
        return iter(current().models)

    def __len__(self) -> int:
        return len(current().models)


samplers = Names(lambda: current().samplers)
"""The names that a KSampler takes."""

schedulers = Names(lambda: current().schedulers)
"""The schedulers that a KSampler takes."""

models: Mapping[str, Names] = ModelNames()
"""The files of every model folder: ``models["checkpoints"]``."""


class OneOf:
    """Marks a string type that takes one of a list of names, as they are now.

    Args:
        names: Gives the names.
        takes_urls: Whether it takes the URL of a file too, which is fetched then.
    """

    def __init__(self, names: Callable[[], Sequence[str]], *, takes_urls: bool = False) -> None:
        self._names = names
        self._takes_urls = takes_urls

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        names = list(self._names())
        said: dict[str, Any] = {"type": "string"}
        options: list[dict[str, Any]] = [{"enum": names}] if names else []
        if self._takes_urls:
            return {**said, "anyOf": [*options, {"type": "string", "format": "uri"}]}
        return {**said, "enum": names} if names else said

    def _checked(self, value: str) -> str:
        names = self._names()
        if value in names or (self._takes_urls and is_address(value)):
            return value
        also = "a URL, or " if self._takes_urls else ""
        raise PydanticCustomError(
            "one_of", "must be {also}one of {names}", {"also": also, "names": listed(names)}
        )


class Media:
    """Marks a string type that takes a file: a URL, a data URL, base64, or an upload's name."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        description = f"{self._what}: a URL, a data URL, base64, or `{UPLOAD}<part>`."
        return {"type": "string", "minLength": 1, "description": description}

    def _checked(self, value: str) -> str:
        if not value.strip():
            raise PydanticCustomError("media", "is empty; it must be a URL or base64")
        return value


class Model:
    """``Model["loras"]`` is the type of a model in that folder: its name, or a URL."""

    def __class_getitem__(cls, folder: str) -> Any:
        return Annotated[str, OneOf(lambda: current().models.get(folder, ()), takes_urls=True)]


def draw_seed() -> int:
    """Return a random seed that every client's numbers can hold."""
    return random.randint(0, LARGEST_DRAWN)  # noqa: S311  nothing is guarded by it


Sampler = Annotated[str, OneOf(lambda: current().samplers)]
Scheduler = Annotated[str, OneOf(lambda: current().schedulers)]
Checkpoint = Annotated[str, OneOf(lambda: current().models.get("checkpoints", ()), takes_urls=True)]
Seed = Annotated[
    int,
    Field(
        default_factory=draw_seed,
        ge=0,
        le=2**64 - 1,
        description="The same seed gives the same result; drawn at random when left out.",
    ),
]
Image = Annotated[str, Media("An image")]
Mask = Annotated[str, Media("A mask")]
Video = Annotated[str, Media("A video")]
Audio = Annotated[str, Media("A sound")]
File = Annotated[str, Media("A file")]
