"""All workflow endpoints: loaded from WORKFLOW_DIR, and kept up with what changes there."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..engine import Engine, Graph
from ..errors import NotFound, RequestError, Unavailable, WorkflowFailed
from .base import (
    Built,
    Endpoint,
    HasNeighbours,
    JsonObject,
    Renewable,
    Surroundings,
    WorkflowFileError,
)
from .folder import GRAPH, Scan, Source, Stamp, scan, stamp
from .loaders import Loaders
from .surroundings import look_around

if TYPE_CHECKING:
    from .graph_file import GraphFile

log = logging.getLogger("comfyui_stateless.workflows")

RESCAN_S = 1.0
"""Seconds for which a look at the files, or at ComfyUI's lists, is good."""

PATIENCE_S = 5.0
"""Seconds that a request waits for changed files, before it takes those of before."""

MAX_NEAR = 5


@dataclass(frozen=True, slots=True)
class Entry:
    """What is at a path.

    Attributes:
        file: What it is made from.
        endpoint: The last good version, None if there never was one.
        error: What is wrong with the file as it is now, None if nothing is, or it is still loaded.
    """

    path: str
    file: Path
    endpoint: Endpoint | None = None
    error: WorkflowFileError | None = None


@dataclass(frozen=True, slots=True)
class Edition:
    """All endpoints at one moment.

    Attributes:
        number: Another one for each edition that differs.
        errors: Of all files, those of entries included.
    """

    number: int = 0
    entries: Mapping[str, Entry] = field(default_factory=dict)
    errors: tuple[WorkflowFileError, ...] = ()


@dataclass(slots=True)
class _Kept:
    """What is remembered of a path.

    Attributes:
        graph: The file as it was read, None for code, or if it could not be read.
        neighbours: The other files that it has loaded, as they were then.
        loading: What makes the endpoint, or has made it.
    """

    source: Source
    entry: Entry
    graph: GraphFile | None = None
    loading: asyncio.Task[None] | None = None
    neighbours: Mapping[Path, Stamp] = field(default_factory=dict)

    def is_as_it_was(self) -> bool:
        """Say whether no neighbour has changed. Blocks."""
        return all(stamp(path) == known for path, known in self.neighbours.items())


class Workflows:
    """The endpoints of a folder. Nothing is loaded before they are first asked for.

    Args:
        folder: WORKFLOW_DIR.
        is_expected: Whether it is an error that the folder is missing.
        rescan_s: Seconds for which a look at files and lists is good.

    Attributes:
        lock: Held while the folder is looked at; hold it to change files in it.
    """

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        loaders: Loaders,
        *,
        is_expected: bool,
        rescan_s: float = RESCAN_S,
    ) -> None:
        self.folder = folder
        self.lock = asyncio.Lock()
        self._engine = engine
        self._loaders = loaders
        self._is_expected = is_expected
        self._rescan_s = rescan_s
        self._warmup: Graph = {}
        self._kept: dict[str, _Kept] = {}
        self._edition = Edition()
        self._surroundings = Surroundings()
        self._scanned_at = self._listed_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._misplaced: tuple[WorkflowFileError, ...] = ()

    def warm_up_with(self, graph: Graph) -> None:
        """Note the graph of the warm-up, whose checkpoint files may want for a default."""
        self._warmup = graph
        self._listed_at = float("-inf")

    async def edition(self, *, lists: bool = False, path: str | None = None) -> Edition:
        """Return the endpoints as the files are now.

        Args:
            lists: Whether ComfyUI's lists of models and the like have to be those of now, too.
            path: Whose endpoint counts; the others may be on their way. None is all.
        """
        arrived = time.monotonic()
        deadline = arrived + PATIENCE_S
        for _ in range(2):  # what is under way may have begun too early, or without the lists
            if self._task is None and not self._is_due(arrived, lists=lists):
                break
            if self._task is None:
                self._task = asyncio.create_task(self._refreshed(lists=lists))
                self._task.add_done_callback(self._over)
            await asyncio.wait({self._task}, timeout=deadline - time.monotonic())
        while (loads := self._loads(path)) and (left := deadline - time.monotonic()) > 0:
            await asyncio.wait(loads, timeout=left)
        return self._edition

    async def entry(self, path: str, *, lists: bool = False) -> Entry:
        """Return what is at a path.

        Raises:
            NotFound: Nothing is; names what is near.
        """
        entries = (await self.edition(lists=lists, path=path)).entries
        if path in entries:
            return entries[path]
        import difflib  # for this case alone

        lowered = {known.lower(): known for known in entries}
        near = difflib.get_close_matches(path.lower()[:300], lowered, MAX_NEAR, 0.5)
        names = [lowered[name] for name in near]
        hint = f"near it: {', '.join(names)}" if names else "GET /workflow lists all there are"
        raise NotFound(f"There is no workflow {path[:200]}; {hint}.", details={"near": names})

    async def build(self, path: str, given: JsonObject) -> Built:
        """Return what the endpoint at a path makes of its input.

        Raises:
            NotFound: There is none.
            StatelessError: The input is wrong, or the endpoint.
        """
        endpoint = await self._endpoint(path)
        try:
            return await endpoint.build(given)
        except RequestError:
            # What was refused may be there by now: a model, for one.
            renewed = await self._endpoint(path, lists=True)
            if renewed is endpoint:
                raise
            return await renewed.build(given)

    def relative(self, file: Path) -> str:
        """Return the name of a file as the folder's user knows it."""
        is_inside = file != self.folder and file.is_relative_to(self.folder)
        return file.relative_to(self.folder).as_posix() if is_inside else file.name

    def said(self, error: WorkflowFileError) -> str:
        """Return an error with the file's name as the folder's user knows it."""
        line = "" if error.line is None else f", line {error.line}"
        return f"{self.relative(error.file)}{line}: {error.reason}"

    async def look_around(self, class_types: Iterable[str]) -> Surroundings:
        """Return what files with nodes of these classes are told of ComfyUI now."""
        return await look_around(self._engine, class_types, self._warmup)

    async def reload(self) -> None:
        """See what has changed in the folder; with ``lock`` held."""
        await self._refresh(lists=False)

    async def close(self) -> None:
        """Stop what is under way, and end the processes that files run in."""
        tasks = {*self._loads(None), *({self._task} if self._task else ())}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._loaders.close()

    async def _endpoint(self, path: str, *, lists: bool = False) -> Endpoint:
        entry = await self.entry(path, lists=lists)
        if entry.endpoint is not None:
            return entry.endpoint
        if entry.error is None:
            raise Unavailable(f"The workflow {path} is being loaded.", headers={"Retry-After": "2"})
        raise WorkflowFailed(f"The workflow {path} is broken: {self.said(entry.error)}")

    def _is_due(self, arrived: float, *, lists: bool) -> bool:
        oldest = arrived - self._rescan_s
        return self._scanned_at < oldest or (lists and self._listed_at < oldest)

    def _loads(self, path: str | None) -> set[asyncio.Task[None]]:
        """Return what loads the file of a path, or all files."""
        kept = self._kept.values() if path is None else filter(None, [self._kept.get(path)])
        return {each.loading for each in kept if each.loading and not each.loading.done()}

    def _over(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()):
            self._scanned_at = self._listed_at = time.monotonic()
            log.error("The workflow files could not be looked at", exc_info=error)

    async def _refreshed(self, *, lists: bool) -> None:
        async with self.lock:
            await self._refresh(lists=lists)

    async def _refresh(self, *, lists: bool) -> None:
        self._scanned_at = time.monotonic()
        found, changed = await asyncio.to_thread(self._look)
        for path in [path for path in self._kept if path not in found.sources]:
            log.info("workflow/%s is gone with its file", path)
            del self._kept[path]
        for source in changed:
            await self._read(source)
        if changed or lists:
            await self._load(changed)
        self._misplaced = found.errors
        self._publish()

    def _look(self) -> tuple[Scan, list[Source]]:
        """Return what there is, and which of it is new or has changed. Blocks."""
        found = scan(self.folder, is_expected=self._is_expected)
        known = self._kept
        changed = [
            source
            for path, source in found.sources.items()
            if path not in known or known[path].source != source or not known[path].is_as_it_was()
        ]
        return found, changed

    async def _read(self, source: Source) -> None:
        """Note a changed file; what served until now goes on until the new version is loaded."""
        known = self._kept.get(source.path)
        endpoint = known.entry.endpoint if known else None
        kept = _Kept(source, Entry(source.path, source.file, endpoint))
        self._kept[source.path] = kept
        if source.file.suffix != GRAPH:
            return
        try:
            kept.graph = await self._loaders.read(source)
        except WorkflowFileError as error:
            self._fail(kept, error)

    async def _load(self, changed: Sequence[Source]) -> None:
        """Begin to load what is new, and to bring the rest to what ComfyUI has now."""
        graphs = [kept.graph for kept in self._kept.values() if kept.graph is not None]
        class_types = {name for graph in graphs for name in graph.class_types}
        surroundings = await self.look_around(class_types)
        self._listed_at = time.monotonic()
        before, self._surroundings = self._surroundings, surroundings
        new = {source.path for source in changed}
        for path, kept in self._kept.items():
            if path in new or before != surroundings:
                loading = self._loaded(kept, kept.loading, surroundings, is_new=path in new)
                kept.loading = asyncio.create_task(loading)

    async def _loaded(
        self,
        kept: _Kept,
        before: asyncio.Task[None] | None,
        surroundings: Surroundings,
        *,
        is_new: bool,
    ) -> None:
        """Load one file, in a task of its own: one that takes long keeps no other waiting."""
        if before is not None:
            await asyncio.wait({before})
        await self._load_one(kept, surroundings, is_new=is_new)
        self._publish()

    async def _load_one(self, kept: _Kept, surroundings: Surroundings, *, is_new: bool) -> None:
        entry = kept.entry
        if kept.graph is None and kept.source.file.suffix == GRAPH:
            return  # it cannot be read
        try:
            renewable = None if is_new or entry.error else _renewable(entry.endpoint)
            if renewable is None:
                endpoint = await self._loaders.load(kept.source, kept.graph, surroundings)
            else:
                endpoint = await renewable.renewed(surroundings)
        except WorkflowFileError as error:
            self._fail(kept, error)
            neighbours = (*error.neighbours, *_neighbours(entry.endpoint))
        except Exception as error:
            log.exception("%s", kept.source.file)
            self._fail(kept, WorkflowFileError(kept.source.file, f"it cannot be loaded: {error}"))
            neighbours = tuple(_neighbours(entry.endpoint))
        else:
            kept.entry = Entry(entry.path, entry.file, endpoint)
            neighbours = tuple(_neighbours(endpoint))
            if is_new:
                self._tell(kept)
        kept.neighbours = await asyncio.to_thread(_stamped, neighbours)

    def _tell(self, kept: _Kept) -> None:
        log.info("workflow/%s is loaded from %s", kept.entry.path, kept.source.file)
        for warning in () if kept.graph is None else kept.graph.warnings:
            log.warning("%s: %s", kept.source.file, warning)

    def _fail(self, kept: _Kept, error: WorkflowFileError) -> None:
        entry = kept.entry
        if str(error) != str(entry.error):
            more = "" if entry.endpoint is None else "; the last good version goes on serving"
            log.error("workflow/%s is broken: %s%s", entry.path, error, more)
        kept.entry = Entry(entry.path, entry.file, entry.endpoint, error)

    def _publish(self) -> None:
        """Make an edition of what is kept, if it differs from the last one."""
        old = self._edition
        entries = {path: kept.entry for path, kept in sorted(self._kept.items())}
        broken = [entry.error for entry in entries.values() if entry.error is not None]
        errors = (*self._misplaced, *broken)
        said = [str(error) for error in old.errors]
        for error in self._misplaced:
            if str(error) not in said:
                log.error("Workflow files: %s", error)
        if dict(old.entries) != entries or [str(error) for error in errors] != said:
            self._edition = Edition(old.number + 1, entries, errors)


def _renewable(endpoint: object) -> Renewable | None:
    return endpoint if isinstance(endpoint, Renewable) else None


def _neighbours(endpoint: object) -> Sequence[Path]:
    return endpoint.neighbours if isinstance(endpoint, HasNeighbours) else ()


def _stamped(paths: Iterable[Path]) -> dict[Path, Stamp]:
    return {path: stamp(path) for path in paths}
