"""The files that a graph names by address or brings along: found, fetched, put where nodes read.

``find`` says what there is to do, without doing any of it; ``Fetcher`` does one of those things and
returns what the node gets in place of the address.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from .cache import Cache, Lease
from .engine import (
    Engine,
    FileForm,
    FileInput,
    Graph,
    InputFile,
    MediaInput,
    ModelInput,
    RepositoryInput,
    Workspace,
)
from .errors import InvalidInput, StatelessError, StorageError
from .inline import decode, is_inline
from .media import HEAD_BYTES, extension, is_html, media_type
from .naming import safe_id
from .repositories import Repositories
from .storage.auth import Credential

UPLOAD = "upload://"

UNKNOWN = "application/octet-stream"

THREAD_FROM_CHARACTERS = 64 * 1024
"""Length from which inline data is decoded in a thread."""

HASH_LENGTH = 8
"""Characters of a cache key that tell linked models of the same name apart."""

MAX_STEM = 120
"""Characters of a linked model's own name that are kept."""

CHUNK_BYTES = 1024 * 1024

PROGRESS_INTERVAL_S = 0.5
"""How often it is told how far a fetch is."""

Tell = Callable[[Mapping[str, Any]], None]
"""Takes how far a fetch is: ``location``, ``url`` without secrets, ``bytes`` and ``total``."""

T = TypeVar("T")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_FETCHED = ("http", "https", "s3")


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A file that came with the request, whole, in a folder that lives as long as the request."""

    path: Path
    digest: str
    extension: str


@dataclass(frozen=True, slots=True)
class Given:
    """What a request brings for its fetches.

    Attributes:
        credentials: In the order in which their patterns are tried.
        uploads: The files that came with it, by the name of their part.
    """

    credentials: Sequence[Credential] = field(default=(), repr=False)
    uploads: Mapping[str, Uploaded] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An input whose value is not a local name.

    Attributes:
        slot: What kind of input it is.
        values: Addresses, data or names of uploads; more than one only for folders.
    """

    node_id: str
    name: str
    slot: FileInput
    values: tuple[str, ...]

    @property
    def location(self) -> str:
        """Where in the request it stands."""
        return f"prompt.{self.node_id}.inputs.{self.name}"


@dataclass(frozen=True, slots=True)
class Brought:
    """What a node gets in place of what its input named: a text, and the files of media."""

    value: str
    files: tuple[InputFile, ...] = ()


def is_address(value: str) -> bool:
    """Say whether a text is the URL of something that we can fetch."""
    scheme = _SCHEME.match(value)
    return scheme is not None and scheme[1].lower() in _FETCHED


def find(
    graph: Graph,
    file_inputs: Callable[[str], Mapping[str, FileInput]],
    find_file: Callable[[str], Path | None],
) -> tuple[Wanted, ...]:
    """Return what a graph's nodes need to have fetched or put in place.

    Raises:
        InvalidInput: An input names a file that it may not, or text that is no file at all.
    """
    return tuple(_find(graph, file_inputs, find_file))


def _find(
    graph: Graph,
    file_inputs: Callable[[str], Mapping[str, FileInput]],
    find_file: Callable[[str], Path | None],
) -> Iterator[Wanted]:
    for node_id, node in graph.items():
        slots = file_inputs(node["class_type"])
        for name, slot in slots.items():
            values = _texts(node["inputs"].get(name), slot)
            wanted = Wanted(node_id, name, slot, values)
            # All of them are looked at: one that is refused is refused whatever the others are.
            if sum(_is_wanted(wanted, value, find_file) for value in values):
                yield wanted


def _texts(value: Any, slot: FileInput) -> tuple[str, ...]:
    if isinstance(value, dict):
        value = value.get("__value__")  # how ComfyUI's editor wraps a value that is no link
    if isinstance(value, str):
        return (value,) if value else ()
    takes_many = isinstance(slot, MediaInput) and slot.form in (
        FileForm.FOLDER,
        FileForm.FOLDER_PATH,
    )
    if takes_many and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    return ()


def _is_wanted(wanted: Wanted, value: str, find_file: Callable[[str], Path | None]) -> bool:
    scheme = _SCHEME.match(value)
    if scheme is not None and not is_address(value) and not value.startswith(UPLOAD):
        if isinstance(wanted.slot, MediaInput) and not wanted.slot.is_marked:
            return False
        raise _refused(wanted, f"{scheme[1]}:// addresses are not fetched; use http, https or s3")
    if not isinstance(wanted.slot, MediaInput):
        return _is_wanted_model(wanted, value)
    return _is_wanted_media(wanted, wanted.slot, value, find_file)


def _is_wanted_model(wanted: Wanted, value: str) -> bool:
    if value.startswith(UPLOAD):
        raise _refused(wanted, "a model cannot come with the request; give its URL")
    return is_address(value)


def _is_wanted_media(
    wanted: Wanted, slot: MediaInput, value: str, find_file: Callable[[str], Path | None]
) -> bool:
    if is_address(value) or value.startswith((UPLOAD, "data:")):
        return True
    if find_file(value) is not None:
        return len(wanted.values) > 1 or slot.form is FileForm.PATH
    if slot.form in (FileForm.NAME, FileForm.PATH) and is_inline(value):
        return True
    if not slot.is_marked:
        return False
    raise _refused(
        wanted,
        "this is no file in ComfyUI's folders, no URL that can be fetched, no data URL, and no "
        "base64 of a file of a known type",
    )


class _Fetch:
    """Fetches for one input; what was fetched stays until the workspace is left."""

    def __init__(
        self,
        cache: Cache,
        location: str,
        credentials: Sequence[Credential],
        workspace: Workspace,
        tell: Tell,
    ) -> None:
        self._cache = cache
        self._location = location
        self._credentials = credentials
        self._workspace = workspace
        self._tell = tell

    async def __call__(self, url: str, *, folder: str | None = None) -> Lease:
        """Return the file of a URL, of a model for ``folder`` or of media.

        Raises:
            StorageError: It cannot be had.
        """
        told = asyncio.ensure_future(self._told(url))
        try:
            lease = await self._cache.fetch(
                url, self._credentials, refuse_html=folder is not None, folder=folder
            )
        finally:
            told.cancel()
        self._workspace.defer(lease.release)
        self._progress(lease.url, lease.size, lease.size)
        return lease

    async def _told(self, url: str) -> None:
        while True:
            await asyncio.sleep(PROGRESS_INTERVAL_S)
            if progress := self._cache.progress(url):
                self._progress(progress.url, progress.bytes, progress.total)

    def _progress(self, url: str, done: int, total: int | None) -> None:
        self._tell({"location": self._location, "url": url, "bytes": done, "total": total})


class Fetcher:
    """Brings what a graph needs to where nodes read it.

    Args:
        cache: Keeps what comes by URL.
        repositories: Keeps what is cloned.
        engine: Knows ComfyUI's folders.
    """

    def __init__(self, cache: Cache, repositories: Repositories, engine: Engine) -> None:
        self._cache = cache
        self._repositories = repositories
        self._engine = engine

    async def bring(
        self, wanted: Wanted, given: Given, workspace: Workspace, tell: Tell
    ) -> Brought:
        """Fetch what an input names.

        What was fetched stays until ``workspace`` is left.

        Args:
            tell: Told how far it is.

        Raises:
            InvalidInput: It cannot be had, or is no file of a kind that the input takes.
        """
        fetch = _Fetch(self._cache, wanted.location, given.credentials, workspace, tell)
        try:
            if isinstance(wanted.slot, ModelInput):
                return Brought(await self._model(wanted.slot, wanted.values[0], fetch))
            if isinstance(wanted.slot, RepositoryInput):
                return Brought(await self._repository(wanted.slot, wanted.values[0], given))
            files = await all_or_first_error(
                [self._media_file(value, given, workspace, fetch) for value in wanted.values]
            )
            value = await self._engine.add_input(files, wanted.slot.form, workspace)
            return Brought(value, tuple(files))
        except (StorageError, InvalidInput) as error:
            raise _refused(wanted, error.message, error) from error

    async def _model(self, slot: ModelInput, url: str, fetch: _Fetch) -> str:
        lease = await fetch(url, folder=slot.folders[0])
        folder = self._folder_for(slot, lease)
        linked = await self._engine.link_model(folder, linked_name(lease), lease.path)
        await lease.add_link(linked.path)
        return linked.name

    def _folder_for(self, slot: ModelInput, lease: Lease) -> str:
        found = lease.path.suffix.lower()
        for folder in slot.folders:
            listed = self._engine.model_extensions(folder)
            if not listed or found in listed:
                return folder
        raise InvalidInput(
            f"{lease.url} is a {found} file, and ComfyUI's folder {slot.folders[0]} lists only "
            f"{', '.join(sorted(self._engine.model_extensions(slot.folders[0])))}."
        )

    async def _repository(self, slot: RepositoryInput, url: str, given: Given) -> str:
        clone = await self._repositories.get(url, given.credentials)
        linked = await self._engine.link_model(slot.folder, clone.name, clone.path)
        return linked.name

    async def _media_file(
        self, value: str, given: Given, workspace: Workspace, fetch: _Fetch
    ) -> InputFile:
        if value.startswith(UPLOAD):
            return _uploaded(value[len(UPLOAD) :], given.uploads)
        if is_address(value):
            return await _fetched(value, fetch)
        local = self._engine.find_file(value)
        if local is not None:
            return InputFile(local, await asyncio.to_thread(_digest, local), local.suffix.lower())
        if len(value) > THREAD_FROM_CHARACTERS:
            return await asyncio.to_thread(_written, value, workspace)
        return _written(value, workspace)


def linked_name(lease: Lease) -> str:
    """Return the name that a fetched model gets in its folder: readable, and its URL's own."""
    stem = safe_id(PurePosixPath(lease.name).stem)[:MAX_STEM] or "model"
    return f"{stem}-{lease.key[:HASH_LENGTH]}{lease.path.suffix.lower()}"


async def all_or_first_error(tasks: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Do all of ``tasks`` side by side; when one fails, cancel the others and raise its error.

    Of several errors at once the first in order is raised.
    """
    running = [asyncio.ensure_future(task) for task in tasks]
    try:
        if running:
            await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
        failed = next((t for t in running if t.done() and t.exception()), None)
        if failed is not None:
            failed.result()
        return [task.result() for task in running]
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _fetched(url: str, fetch: _Fetch) -> InputFile:
    lease = await fetch(url)
    head = await asyncio.to_thread(_head, lease.path)
    if is_html(head, lease.media_type):
        raise InvalidInput(f"{lease.url} gives a web page, not a file of media.")
    found = media_type("", head)
    suffix = extension(found) if found != UNKNOWN else PurePosixPath(lease.name).suffix.lower()
    if found == UNKNOWN and media_type(lease.name) == UNKNOWN:
        raise InvalidInput(f"{lease.url} gives no image, video, sound or 3D model of a known type.")
    return InputFile(lease.path, await lease.digest(), suffix)


def _uploaded(name: str, uploads: Mapping[str, Uploaded]) -> InputFile:
    if name not in uploads:
        sent = ", ".join(sorted(uploads)) or "none"
        raise InvalidInput(f"The request has no file part named {name!r}; it has: {sent}.")
    file = uploads[name]
    return InputFile(file.path, file.digest, file.extension)


def _written(value: str, workspace: Workspace) -> InputFile:
    inline = decode(value)
    if inline is None:
        raise InvalidInput("The value is neither base64 nor a data URL of a file of a known type.")
    path = workspace.folder() / f"inline-{inline.digest}{inline.extension}"
    path.write_bytes(inline.data)
    return InputFile(path, inline.digest, inline.extension)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _refused(wanted: Wanted, reason: str, error: StatelessError | None = None) -> InvalidInput:
    return InvalidInput(
        f"Node {wanted.node_id}, {wanted.name}: {reason.rstrip('.')}.",
        location=wanted.location,
        details={} if error is None else {"reason": error.code, **error.details},
    )
