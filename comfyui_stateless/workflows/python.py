"""Endpoints in Python: a pydantic ``RequestSchema`` and a function ``generate_workflow``."""

from __future__ import annotations

import inspect
import json
import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError

from ..errors import RequestError, StatelessError, WorkflowFailed
from ..requests import MAX_DEPTH, check_graph, is_deeper
from .base import Built, Description, JsonObject, Surroundings, WorkflowFileError
from .code_loader import Package
from .examples import example_of
from .helpers import using
from .threads import TookTooLong, in_own_thread, within

log = logging.getLogger("comfyui_stateless.workflows")

LOAD_LIMIT_S = 60.0
"""Seconds that a file may take to be loaded; it may import large packages."""

BUILD_LIMIT_S = 30.0
"""Seconds that ``generate_workflow`` may take."""

SCHEMA = "RequestSchema"
FUNCTION = "generate_workflow"


class PythonEndpoint:
    """A loaded file as an endpoint.

    Raises:
        WorkflowFileError: The module lacks what an endpoint needs, or has it in a wrong form.
    """

    def __init__(
        self,
        source: Path,
        module: ModuleType,
        package: Package,
        surroundings: Surroundings,
        limit_s: float = BUILD_LIMIT_S,
    ) -> None:
        self._source = source
        self._module = module
        self._package = package
        self._surroundings = surroundings
        self._limit_s = limit_s
        self._schema = _request_schema(source, module)
        self._generate = _function(source, module)
        self._description = _described(source, module, self._schema, surroundings)
        self._names = frozenset(self._description.schema.get("properties", {}))

    @property
    def source(self) -> Path:
        return self._source

    @property
    def neighbours(self) -> list[Path]:
        """The files beside it that it has imported."""
        return [path for path in self._package.files() if path != self._source]

    @property
    def description(self) -> Description:
        return self._description

    async def renewed(self, surroundings: Surroundings) -> PythonEndpoint:
        """Return the same endpoint for other lists; the file is not run again."""
        if surroundings.warmup_checkpoint != self._surroundings.warmup_checkpoint:
            return await load(self._source, surroundings)
        return await in_own_thread(
            lambda: PythonEndpoint(
                self._source, self._module, self._package, surroundings, self._limit_s
            ),
            LOAD_LIMIT_S,
        )

    async def build(self, given: JsonObject) -> Built:
        """Check ``given`` and have the file make a graph of it.

        Raises:
            RequestError: A value is wrong.
            WorkflowFailed: The file's code failed, took too long, or made no graph.
        """
        try:
            with using(self._surroundings):
                return await self._built(given)
        except TookTooLong:
            raise WorkflowFailed(
                f"{self._source.name}: {FUNCTION} took longer than {self._limit_s:g} seconds."
            ) from None
        except StatelessError:
            raise
        except Exception as error:
            raise self._failed(error) from error

    async def _built(self, given: JsonObject) -> Built:
        checked, said = await in_own_thread(lambda: self._checked(given), self._limit_s)
        if inspect.iscoroutinefunction(self._generate):
            result = await within(self._generate(checked), self._limit_s)
        else:
            result = await in_own_thread(lambda: self._generate(checked), self._limit_s)
            if inspect.isawaitable(result):
                result = await within(result, self._limit_s)
        return Built(await in_own_thread(lambda: self._graph(result), self._limit_s), said)

    def _checked(self, given: JsonObject) -> tuple[BaseModel, dict[str, Any]]:
        """Return the model that the file gets, and what the reply says of it."""
        settings = self._schema.model_config
        if "extra" not in settings:
            self._require_known(given)
        strict = None if "strict" in settings else True
        try:
            # As JSON: so that enums, dates and the like are taken from what JSON has for them.
            checked = self._schema.model_validate_json(json.dumps(given), strict=strict)
        except ValidationError as error:
            raise _refused(error) from None
        return checked, checked.model_dump(mode="json", by_alias=True)

    def _require_known(self, given: JsonObject) -> None:
        for name in given:
            if name not in self._names:
                known = ", ".join(sorted(self._names)) or "none"
                raise RequestError(
                    f"The workflow has no input {name[:100]}; it has {known}.",
                    location=f"input.{name[:100]}",
                )

    def _graph(self, result: Any) -> dict[str, Any]:
        """Return what the file has made as plain JSON values, if it is a graph.

        Raises:
            WorkflowFailed: It is none.
        """
        name = self._source.name
        if not isinstance(result, Mapping) or not result:
            raise WorkflowFailed(
                f"{name}: {FUNCTION} returned {type(result).__name__}, not a graph: a dict of nodes."
            )
        try:
            graph: dict[str, Any] = json.loads(json.dumps(dict(result), allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise WorkflowFailed(
                f"{name}: the graph has values that are not JSON: {error}."
            ) from None
        if is_deeper(graph, MAX_DEPTH):
            raise WorkflowFailed(f"{name}: the graph is nested more than {MAX_DEPTH} levels deep.")
        try:
            check_graph(graph)
        except RequestError as error:
            where = (error.location or "").removeprefix("prompt").lstrip(".")
            raise WorkflowFailed(f"{name}: the graph is wrong: {where}: {error.message}") from None
        return graph

    def _failed(self, error: Exception) -> WorkflowFailed:
        line = _line(error, self._source)
        where = self._source.name if line is None else f"{self._source.name}, line {line}"
        log.warning("%s failed", where, exc_info=error)
        return WorkflowFailed(f"{where}: {type(error).__name__}: {error}")


async def load(
    path: Path, surroundings: Surroundings, limit_s: float = BUILD_LIMIT_S
) -> PythonEndpoint:
    """Run a file and return its endpoint.

    Args:
        limit_s: Seconds that ``generate_workflow`` may take.

    Raises:
        WorkflowFileError: It cannot be run, or is no endpoint; says where.
    """
    package = Package(path)

    def loaded() -> PythonEndpoint:
        with using(surroundings):
            module = package.load()
        return PythonEndpoint(path, module, package, surroundings, limit_s)

    try:
        return await in_own_thread(loaded, LOAD_LIMIT_S)
    except WorkflowFileError:
        raise
    except TookTooLong:
        raise WorkflowFileError(path, f"loading it takes longer than {LOAD_LIMIT_S:g} s") from None
    except Exception as error:
        raise _as_file_error(error, path, package.files()) from error


def _as_file_error(error: Exception, path: Path, loaded: Sequence[Path]) -> WorkflowFileError:
    frames = traceback.extract_tb(error.__traceback__)
    beside = [Path(frame.filename) for frame in frames if Path(frame.filename) != path]
    neighbours = {file for file in (*loaded, *beside) if file.is_relative_to(path.parent)} - {path}
    if isinstance(error, SyntaxError):
        is_own = error.filename == str(path)
        where = "" if is_own else f"{error.filename}, line {error.lineno}: "
        neighbours |= set() if is_own or error.filename is None else {Path(error.filename)}
        line = error.lineno if is_own else _line(error, path)
        return WorkflowFileError(path, f"{where}{error.msg}", line, sorted(neighbours))
    if isinstance(error, OSError) and error.filename == str(path):
        return WorkflowFileError(path, f"it cannot be read: {error.strerror}")
    reason = f"{type(error).__name__}: {error}"
    return WorkflowFileError(path, reason, _line(error, path), sorted(neighbours))


def _line(error: BaseException, path: Path) -> int | None:
    """Return the last line of a file that an error went through."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return lines[-1] if lines else None


def _request_schema(source: Path, module: ModuleType) -> type[BaseModel]:
    schema = getattr(module, SCHEMA, None)
    if schema is None:
        raise WorkflowFileError(
            source,
            f"it has no {SCHEMA}, a subclass of pydantic.BaseModel; the name of a file that only "
            "helps others begins with _",
        )
    if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
        raise WorkflowFileError(
            source, f"{SCHEMA} must be a subclass of pydantic.BaseModel", _place(module, SCHEMA)
        )
    return schema


def _function(source: Path, module: ModuleType) -> Callable[[Any], Any]:
    function = getattr(module, FUNCTION, None)
    if function is None:
        raise WorkflowFileError(source, f"it has no function {FUNCTION}(input)")
    if not callable(function):
        raise WorkflowFileError(source, f"{FUNCTION} must be a function", _place(module, FUNCTION))
    try:
        inspect.signature(function).bind(None)
    except (TypeError, ValueError):
        raise WorkflowFileError(
            source, f"{FUNCTION} must take one argument, the input", _place(module, FUNCTION)
        ) from None
    return function  # type: ignore[no-any-return]  # it is callable


def _described(
    source: Path, module: ModuleType, schema: type[BaseModel], surroundings: Surroundings
) -> Description:
    texts = {name: getattr(module, name, None) for name in ("summary", "description")}
    for name, text in texts.items():
        if text is not None and not isinstance(text, str):
            raise WorkflowFileError(source, f"{name} must be a string", _place(module, name))
    try:
        with using(surroundings):
            said = json.loads(json.dumps(schema.model_json_schema()))
            example = example_of(said)
            fits = example is not None and _fits(schema, example)
    except Exception as error:
        raise WorkflowFileError(
            source, f"{SCHEMA} has no JSON Schema: {error}", _place(module, SCHEMA)
        ) from error
    return Description(said, texts["summary"], texts["description"], example if fits else None)


def _fits(schema: type[BaseModel], example: JsonObject) -> bool:
    try:
        schema.model_validate_json(json.dumps(example))
    except ValidationError:
        return False
    return True


def _place(module: ModuleType, name: str) -> int | None:
    """Return the line on which a module first assigns or defines a name."""
    import ast

    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_bytes())
    for node in tree.body:
        targets = getattr(node, "targets", None) or [getattr(node, "target", node)]
        names = {getattr(target, "id", getattr(target, "name", None)) for target in targets}
        if name in names:
            return node.lineno
    return None


def _refused(error: ValidationError) -> RequestError:
    errors = [
        {"location": ".".join(["input", *map(str, e["loc"])]), "message": e["msg"]}
        for e in error.errors(include_input=False, include_url=False, include_context=False)
    ]
    first = errors[0]
    place = first["location"].removeprefix("input.")
    return RequestError(
        f"{place}: {first['message']}.", location=first["location"], details={"errors": errors}
    )
