"""Which files in WORKFLOW_DIR are endpoints, and whether they have changed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .base import WorkflowFileError

CODE = (".py", ".ts", ".js")
"""Endings of files with code; the first that is there serves a path."""

GRAPH = ".json"
DESCRIPTIONS = (".yaml", ".yml")

SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules"})
SKIPPED_FILES = frozenset({"package.json", "package-lock.json", "tsconfig.json", "jsconfig.json"})
HELPS = "_"
"""What the names of files and folders begin with that only help others."""

MAX_DEPTH = 32

Stamp = tuple[int, int, int] | None
"""When a file was changed, its size and its number; None for one that is not there."""


class Source(NamedTuple):
    """An endpoint's files.

    Attributes:
        path: The route below ``/workflow``.
        file: What it is made from.
        description: The YAML file beside a graph, if there is one.
        stamps: Of these, and of the helpers beside them.
    """

    path: str
    file: Path
    description: Path | None
    stamps: tuple[Stamp, ...]


@dataclass(frozen=True, slots=True)
class Scan:
    """What lies in the folder.

    Attributes:
        errors: Of files that cannot be endpoints, whatever is in them.
    """

    sources: Mapping[str, Source] = field(default_factory=dict)
    errors: tuple[WorkflowFileError, ...] = ()


def scan(folder: Path, *, is_expected: bool) -> Scan:
    """Look at all files below a folder. Blocks.

    Args:
        is_expected: Whether it is an error that the folder is missing.
    """
    if not is_expected and not folder.exists():
        return Scan()
    look = _Look()
    look.into(folder, "", 0)
    return Scan(dict(sorted(look.sources.items())), tuple(look.errors))


def stamp(path: Path) -> Stamp:
    """Return what tells whether a file has changed."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class _Look:
    """Collects the endpoints below a folder."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}
        self.errors: list[WorkflowFileError] = []
        self._seen: set[tuple[int, int]] = set()

    def into(self, folder: Path, route: str, depth: int) -> None:
        try:
            found = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self.errors.append(WorkflowFileError(folder, f"it cannot be read: {error.strerror}"))
            return
        if (found.st_dev, found.st_ino) in self._seen or depth > MAX_DEPTH:
            return  # a link that leads back
        self._seen.add((found.st_dev, found.st_ino))
        counted = [entry for entry in entries if not entry.name.startswith((".", HELPS))]
        files: dict[str, dict[str, Path]] = {}
        for entry in counted:
            path = folder / entry.name
            if not entry.is_dir() and _is_endpoint_file(entry.name):
                files.setdefault(path.stem, {})[path.suffix] = path
        helpers = tuple(_helpers(folder, entries)) if files else ()
        for stem, endings in files.items():
            self._add(route + stem, endings, helpers)
        for entry in counted:
            if entry.is_dir() and entry.name not in SKIPPED_FOLDERS:
                self.into(folder / entry.name, f"{route}{entry.name}/", depth + 1)

    def _add(self, path: str, files: Mapping[str, Path], helpers: tuple[Stamp, ...]) -> None:
        file = next((files[e] for e in (*CODE, GRAPH) if e in files), None)
        described = [files[ending] for ending in DESCRIPTIONS if ending in files]
        self.errors += _conflicts(file, files, described)
        if file is None:
            return
        is_graph = file.suffix == GRAPH
        description = described[0] if described and is_graph else None
        own = [file, *([description] if description else [])]
        stamps = (*map(stamp, own), *(() if is_graph else helpers))
        self.sources[path] = Source(path, file, description, stamps)


def _conflicts(
    file: Path | None, files: Mapping[str, Path], described: Sequence[Path]
) -> Iterator[WorkflowFileError]:
    """Yield the errors of files that another one of the same path keeps from serving."""
    if file is None:
        for each in described:
            yield WorkflowFileError(each, f"there is no {each.stem}{GRAPH} beside it")
        return
    for ending, other in files.items():
        if other == file or _goes_with(file, ending, described):
            continue
        yield WorkflowFileError(
            other, f"{file.name} serves the path of the same name; remove or rename one of them"
        )
    for other in described[1:]:
        if file.suffix == GRAPH:
            yield WorkflowFileError(other, f"{described[0].name} describes the same graph")


def _goes_with(file: Path, ending: str, described: Sequence[Path]) -> bool:
    """Say whether a file with this ending may lie beside the one that serves.

    That is so for the .js that the original made of a .ts, and the graph that it was written from.
    """
    if file.suffix == GRAPH:
        return ending in DESCRIPTIONS
    if file.suffix in (".ts", ".js"):
        return ending == ".js" or (ending == GRAPH and not described)
    return False


def _is_endpoint_file(name: str) -> bool:
    known = name.endswith((*CODE, GRAPH, *DESCRIPTIONS))
    return known and not name.endswith(".d.ts") and name not in SKIPPED_FILES


def _helpers(folder: Path, entries: Sequence[os.DirEntry[str]]) -> Iterator[Stamp]:
    """Yield the stamps of the files that help those of a folder."""
    for entry in entries:
        if not entry.name.startswith(HELPS) or entry.name in SKIPPED_FOLDERS:
            continue
        if not entry.is_dir():
            yield stamp(folder / entry.name)
            continue
        for root, folders, files in os.walk(folder / entry.name):
            folders[:] = sorted(set(folders) - SKIPPED_FOLDERS)
            yield from (stamp(Path(root, name)) for name in sorted(files))
