"""What the output nodes of a run left: the files they wrote and the texts they showed."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

import folder_paths

from ..engine import NodeFile, NodeText
from .files import RunFolder
from .plan import Plan
from .strays import Stray

log = logging.getLogger("comfyui_stateless.host")

CLOCK_SLACK_S = 0.1
"""File systems stamp times with a coarser clock than Python reads."""

MAX_TOLD = 10
"""Files that are not there which the log names, of a run: a node may report very many."""

MAX_NAME = 300
"""Characters of such a name."""

Location = tuple[Path, Path]
"""The base folder of a file, and its path."""

Shown = list[tuple[str, Mapping[str, Any]]]
"""Node ids of the caller's graph, in its order, each with the ui output of a node."""


def shown(plan: Plan, outputs: Mapping[str, Mapping[str, Any]]) -> Shown:
    """Return ui outputs by the caller's nodes, in the graph's order."""
    order = {node_id: index for index, node_id in enumerate(plan.graph)}
    owned = [(plan.real_id(node_id), ui) for node_id, ui in outputs.items()]
    return sorted(owned, key=lambda pair: order.get(pair[0], len(order)))


def texts(outputs: Shown) -> Iterator[NodeText]:
    """Yield the texts that nodes showed."""
    for node_id, ui in outputs:
        for key, values in ui.items():
            if key == "result" or not isinstance(values, (list, tuple)):
                continue  # "result" holds a viewer's arguments: paths and cameras
            for value in values:
                if (text := _text(key, value)) is not None:
                    yield NodeText(node_id, text)


def _text(key: str, value: Any) -> str | None:
    """Return the text in a value that a node shows; numbers and named texts count where texts are due."""
    if key == "text":
        if isinstance(value, dict):
            value = dict.get(value, key)
        elif type(value) in (bool, int, float):
            with suppress(ValueError):  # of more digits than Python writes
                return repr(value)
    return str.__str__(value) if isinstance(value, str) else None


class Files:
    """Finds the files of one run and puts them into its folder.

    Args:
        since: When the run began, in Unix seconds. A file that is older is not the run's: it
            stays where it is, and a link or copy of it is taken.
    """

    def __init__(self, plan: Plan, folder: RunFolder, since: float) -> None:
        self._plan = plan
        self._folder = folder
        self._since = since - CLOCK_SLACK_S
        self._bases: dict[str, Path] = {}
        self._located: dict[tuple[str, str, str], Location | None] = {}
        self._missing = 0
        self._seen: set[Path] = set()
        self._gave_early: set[str] = set()
        self._saved: set[str] = set()
        self.collected: list[NodeFile] = []

    def early(self, node_id: str, ui: Mapping[str, Any]) -> Iterator[NodeFile]:
        """Yield the files of a node that is done, as far as nothing can happen to them any more.

        They lie in the run's own folder, where they can stay, and nothing in the graph hangs
        behind their node. One counts as given when the next is asked for; ``collect`` returns the
        others.
        """
        entries = list(_entries(ui))
        if not entries or self._plan.feeds(node_id):
            return
        for entry in entries:
            location = self._locate(entry)
            if location and self._is_own(*location) and location[1] not in self._seen:
                yield self._as_it_lies(node_id, entry, *location)
                self._seen.add(location[1])
                self._gave_early.add(node_id)
                self._note_saved(node_id, temp=_is_temp(entry))

    def collect(self, outputs: Shown) -> list[NodeFile]:
        """Return the files that nodes reported, and those of nodes that wrote without a report.

        Those that were given early are not among them.

        Raises:
            OSError: A file could not be taken.
        """
        self._located.clear()  # files have come and gone since they were looked for early
        found: list[NodeFile] = []
        for node_id, ui in outputs:
            for entry in _entries(ui):
                found.extend(self._reported(node_id, entry))
        silent = self._plan.folders.keys() - {file.node_id for file in found}
        for node_id in silent - self._gave_early:
            found.extend(self._unreported(node_id))
        for file in found:
            self._note_saved(file.node_id, temp=file.temp)
        self.collected = self._sorted(found)
        return self.collected

    def with_strays(self, found: Iterable[NodeFile], strays: Iterable[Stray]) -> list[NodeFile]:
        """Return files together with those that nodes wrote into ComfyUI's folder without a report.

        Only output nodes that say nowhere that they saved anything are heard: what others write
        beside their work is their own affair.
        """
        savers = self._plan.free | self._plan.folders.keys()
        silent = [n for n in self._plan.graph if n in savers and n not in self._saved]
        more = []
        for stray in strays:
            node_id = stray.node_id or next(reversed(silent), "")
            if node_id in silent:
                more.append(NodeFile(node_id, self._own_name(stray.name), False, stray.path))
        return self._sorted([*found, *more])

    def _sorted(self, files: Iterable[NodeFile]) -> list[NodeFile]:
        order = {node_id: index for index, node_id in enumerate(self._plan.graph)}
        return sorted(files, key=lambda file: order.get(file.node_id, len(order)))

    def _note_saved(self, node_id: str, *, temp: bool) -> None:
        if not temp:
            self._saved.add(node_id)

    def _reported(self, node_id: str, entry: Mapping[str, str]) -> Iterator[NodeFile]:
        location = self._locate(entry)
        if location is None:
            self._missing += 1
            if self._missing <= MAX_TOLD:
                name = ascii(entry["filename"])[:MAX_NAME]
                log.warning("A node reported a file that is not there: %s", name)
            return
        base, path = location
        if path in self._seen:
            return
        self._seen.add(path)
        if self._is_own(base, path):
            yield self._as_it_lies(node_id, entry, base, path)
        else:
            name = self._own_name(path.relative_to(base))
            yield NodeFile(node_id, name, _is_temp(entry), self._take(base, path))

    def _locate(self, entry: Mapping[str, str]) -> Location | None:
        """Return where the file of an entry is; what a node names often is looked for once."""
        kind = entry["type"]
        name = kind, entry["subfolder"], entry["filename"]
        if name not in self._located:
            if kind not in self._bases:
                self._bases[kind] = Path(os.path.realpath(folder_paths.get_directory_by_type(kind)))
            self._located[name] = _found(self._bases[kind], *name[1:])
        return self._located[name]

    def _is_own(self, base: Path, path: Path) -> bool:
        """Say whether a file lies in the run's folder, wherever a pack has had that put."""
        parts = path.relative_to(base).parts
        if self._folder.name in parts[1:]:
            self._folder.discard(base.joinpath(*parts[: parts.index(self._folder.name) + 1]))
        return self._folder.name in parts

    def _as_it_lies(
        self, node_id: str, entry: Mapping[str, str], base: Path, path: Path
    ) -> NodeFile:
        parts = path.relative_to(base).parts
        # Without a name of its own a file lies beside the node's folder, named like that.
        below = parts[parts.index(self._folder.name) + 2 :] or parts[-1:]
        return NodeFile(node_id, PurePath(*below).as_posix(), _is_temp(entry), path)

    def _own_name(self, name: PurePath) -> str:
        prefix = self._plan.name_prefix
        named = name if name.name.startswith(prefix) else name.with_name(f"{prefix}{name.name}")
        return named.as_posix()

    def _take(self, base: Path, path: Path) -> Path:
        target = self._folder.make(base, "taken", str(len(self._seen))) / path.name
        is_new = path.stat().st_mtime >= self._since
        try:
            if is_new:
                return path.replace(target)
            os.link(path, target)
        except OSError:  # it lies on another disk, say
            shutil.copyfile(path, target)
            if is_new:
                path.unlink()
        return target

    def _unreported(self, node_id: str) -> Iterator[NodeFile]:
        root = Path(folder_paths.get_output_directory(), self._plan.folders[node_id])
        for path in sorted(root.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield NodeFile(node_id, path.relative_to(root).as_posix(), False, path)


def _entries(ui: Mapping[str, Any]) -> Iterator[Mapping[str, str]]:
    """Yield the file entries, but for those of ComfyUI's input folder, which are the caller's."""
    for values in ui.values():
        for value in values if isinstance(values, (list, tuple)) else ():
            if isinstance(value, dict) and (entry := _entry(value))["filename"]:
                yield entry


def _entry(value: dict[Any, Any]) -> dict[str, str]:
    """Return an entry in plain texts, whatever a node has put there; without a file it has no name."""
    filename, subfolder, kind = (dict.get(value, key) for key in ("filename", "subfolder", "type"))
    kind = _plain(kind) or "output"
    name = _plain(filename) if kind in ("output", "temp") else ""
    return {"filename": name, "subfolder": _plain(subfolder), "type": kind}


def _plain(text: Any) -> str:
    return str.__str__(text) if isinstance(text, str) else ""


def _is_temp(entry: Mapping[str, str]) -> bool:
    return entry["type"] == "temp"


def _found(base: Path, subfolder: str, filename: str) -> Location | None:
    """Return the base folder and the path of a file in it.

    None for paths that leave their base, and for files that are not there.
    """
    below = base / subfolder / filename
    try:
        if not below.is_file():
            return None
        path = Path(os.path.realpath(below))
        return (base, path) if path.is_relative_to(base) else None
    except (OSError, ValueError):  # no name of a file: too long, or with a NUL
        return None
