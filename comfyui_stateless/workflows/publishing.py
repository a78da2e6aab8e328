"""Saving endpoints of graphs into WORKFLOW_DIR for clients, and removing them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from ..errors import NoSpace, NotFound, Occupied, RequestError, StatelessError
from ..requests import WireModel
from .base import WorkflowFileError
from .collection import Entry, Workflows
from .declared import declarations
from .folder import CODE, DESCRIPTIONS, GRAPH, SKIPPED_FILES, SKIPPED_FOLDERS
from .graph import GraphEndpoint
from .graph_file import GraphFile, parse_graph
from .yaml_file import read_yaml

MAX_PARTS = 8
MAX_PART = 100

_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]*[A-Za-z0-9_-])?")
_PLACE = re.compile(r"(inputs\.\S+?|summary|description): ")
_NODE = re.compile(r"node (\S+?): ")


class Publication(WireModel):
    """The body of `PUT /workflow/{path}`."""

    graph: dict[str, Any] = Field(description="The graph in ComfyUI's API format.")
    inputs: dict[str, Any] = Field(
        default_factory=dict,
        description="By name, as in a YAML file: `node` and `input`, or `to`, and what is to be "
        "said of the values.",
    )
    summary: str | None = Field(default=None, max_length=1000)
    description: str | None = Field(default=None, max_length=100_000)


async def publish(workflows: Workflows, path: str, published: Publication) -> tuple[Entry, bool]:
    """Save an endpoint; return it, and whether it is new.

    It is checked exactly as a file is when it is loaded, and is there when this returns.

    Raises:
        RequestError: The path or the endpoint is wrong.
        Occupied: A file that is not to be replaced has this path.
        StatelessError: The files cannot be written.
    """
    target = _checked_path(workflows.folder, path)
    texts = _texts(published)
    file = await asyncio.to_thread(_read, target, texts)
    surroundings = await workflows.look_around(file.class_types)
    try:
        GraphEndpoint(file, surroundings)
    except WorkflowFileError as error:
        raise _refused(error) from None
    async with workflows.lock:
        is_new = await _on_disk(_write, workflows.folder, target, texts)
        await workflows.reload()
    return await workflows.entry(path), is_new


async def remove(workflows: Workflows, path: str) -> None:
    """Remove an endpoint that was saved, or could have been.

    Raises:
        NotFound: There is none.
        Occupied: It is made of code.
        StatelessError: The files cannot be removed.
    """
    entry = await workflows.entry(path)
    if entry.file.suffix != GRAPH:
        raise Occupied(f"{workflows.relative(entry.file)} holds code; only graphs can be removed.")
    async with workflows.lock:
        await _on_disk(_delete, workflows.folder, entry.file)
        await workflows.reload()


def _checked_path(folder: Path, path: str) -> Path:
    """Return the JSON file of a path.

    Raises:
        RequestError: Such a path cannot be published.
    """
    parts = path.split("/")
    is_plain = len(parts) <= MAX_PARTS and all(
        len(part) <= MAX_PART and _PART.fullmatch(part) for part in parts
    )
    name = f"{parts[-1]}{GRAPH}"
    endings = (*CODE, GRAPH, *DESCRIPTIONS)
    is_skipped = name in SKIPPED_FILES or not SKIPPED_FOLDERS.isdisjoint(parts)
    if not is_plain or is_skipped or parts[-1].endswith(endings):
        raise RequestError(
            f"A workflow's path has 1 to {MAX_PARTS} parts of 1 to {MAX_PART} letters, digits, "
            "spaces, dots, dashes and underscores, begins each with a letter or digit, ends each "
            "with neither dot nor space, and has no extension of a workflow file.",
            location="path",
        )
    return folder.joinpath(*parts[:-1], name)


def _texts(published: Publication) -> dict[str, str]:
    """Return the contents of the files, by ending.

    Raises:
        RequestError: The graph cannot be written down.
    """
    import yaml

    said: dict[str, Any] = {"summary": published.summary, "description": published.description}
    said = {name: text for name, text in said.items() if text} | {"inputs": published.inputs}
    graph = json.dumps(published.graph, indent=2, ensure_ascii=False) + "\n"
    try:
        graph.encode()
    except UnicodeEncodeError:
        raise RequestError(
            "The graph holds a half character, such as \\ud800, which no file can.",
            location="graph",
        ) from None
    return {
        GRAPH: graph,
        DESCRIPTIONS[0]: yaml.safe_dump(said, sort_keys=False, allow_unicode=True),
    }


def _read(target: Path, texts: Mapping[str, str]) -> GraphFile:
    description = target.with_name(target.name.removesuffix(GRAPH) + DESCRIPTIONS[0])
    try:
        graph, lines = parse_graph(texts[GRAPH], target)
        said, places = read_yaml(texts[DESCRIPTIONS[0]], description)
        return GraphFile(target, graph, lines, declarations(said, description, places))
    except WorkflowFileError as error:
        raise _refused(error) from None


def _refused(error: WorkflowFileError) -> RequestError:
    """Return a file's error as one of the request that would have made the file."""
    place, node = _PLACE.match(error.reason), _NODE.match(error.reason)
    if place is not None:
        return RequestError(f"{error.reason}.", location=place[1])
    location = f"graph.{node[1]}" if node else "graph"
    return RequestError(f"{error.reason}.".replace("..", "."), location=location)


async def _on_disk(work: Any, *args: Any) -> Any:
    try:
        return await asyncio.to_thread(work, *args)
    except OSError as error:
        import errno

        kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else StatelessError
        raise kind(f"WORKFLOW_DIR cannot be written: {error.strerror or error}.") from error


def _write(folder: Path, target: Path, texts: Mapping[str, str]) -> bool:
    """Put the files in place, each whole; return whether they are new."""
    _require_inside(folder, target)
    stem = target.name.removesuffix(GRAPH)
    for ending in CODE:
        if os.path.lexists(target.with_name(stem + ending)):
            raise Occupied(f"{stem}{ending} has this path; a file with code is not replaced.")
    files = {target.with_name(stem + ending): text for ending, text in texts.items()}
    other = target.with_name(stem + DESCRIPTIONS[1])
    for file in (*files, other):
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise Occupied(f"{file.name} is a link or no file; it is not replaced.")
    is_new = not target.exists()
    target.parent.mkdir(parents=True, exist_ok=True)
    _require_inside(folder, target)
    for file, text in files.items():
        _replace(file, text)
    other.unlink(missing_ok=True)
    return is_new


def _replace(file: Path, text: str) -> None:
    """Write a file so that nobody ever sees a part of it."""
    part = file.with_name(f".{file.name[:50]}.{secrets.token_hex(8)}.part")
    try:
        with part.open("x", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def _delete(folder: Path, file: Path) -> None:
    _require_inside(folder, file)
    beside = [file.with_name(file.name.removesuffix(GRAPH) + e) for e in DESCRIPTIONS]
    if not os.path.lexists(file):
        raise NotFound(f"{file.name} is gone already.")
    if any(each.is_symlink() for each in (file, *beside)):
        raise Occupied(f"{file.name} is a link; it is not removed.")
    for each in (file, *beside):
        each.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # up to the first that holds something else
        for above in file.parents[: len(file.relative_to(folder).parts) - 1]:
            above.rmdir()


def _require_inside(folder: Path, target: Path) -> None:
    """See that no link on the way leads out of the folder.

    Raises:
        Occupied: One does.
    """
    root, real = Path(os.path.realpath(folder)), Path(os.path.realpath(target.parent))
    if real != root / target.parent.relative_to(folder):
        raise Occupied("A link has a part of this path; nothing is written behind it.")
