"""The files that a graph names by address or brings along: fetched, and put where nodes read."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ..cache import Cache, Lease
from ..engine import (
    Engine,
    FileForm,
    Graph,
    InputFile,
    MediaInput,
    ModelInput,
    RepositoryInput,
    Workspace,
)
from ..errors import FolderFailed, InvalidInput, StorageError, full_disk
from ..media import HEAD_BYTES, UNKNOWN, extension, is_recognised, media_type
from ..naming import safe_id
from ..repositories import Repositories
from ..storage.auth import Credential
from .given import Given, inline_file, uploaded
from .together import all_or_first_error
from .wanted import UPLOAD, WRAPPED, Wanted, failed, is_address, named_models

log = logging.getLogger("comfyui_stateless.inputs")

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


class Brought(NamedTuple):
    """What a node gets in place of what its input named, and the files of media."""

    value: Any
    files: tuple[InputFile, ...] = ()


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
                url, self._credentials, refuse_html=True, media=folder is None, folder=folder
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

    async def hold_models(self, graph: Graph, workspace: Workspace) -> None:
        """Keep the cached models that a graph names by local names, until the workspace is left."""
        if not self._cache.evicts:
            return
        for folder, name in named_models(graph, self._engine.file_inputs):
            path = self._engine.model_file(folder, name)
            release = None if path is None else await self._cache.hold(path)
            if release is not None:
                workspace.defer(release)

    async def bring(
        self, wanted: Wanted, given: Given, workspace: Workspace, tell: Tell
    ) -> Brought:
        """Fetch what an input names.

        What was fetched stays until ``workspace`` is left.

        Args:
            tell: Told how far it is.

        Raises:
            InvalidInput: It cannot be had, or is no file of a kind that the input takes.
            NoSpace: A disk that it has to be put on is full.
            FolderFailed: It went missing meanwhile, or a folder cannot be read or written to.
            OutOfDescriptors: No further connection can be made now.
        """
        fetch = _Fetch(self._cache, wanted.location, given.credentials, workspace, tell)
        try:
            if isinstance(wanted.slot, ModelInput):
                return Brought(await self._models(wanted, wanted.slot, fetch))
            if isinstance(wanted.slot, RepositoryInput):
                return Brought(await self._repository(wanted.slot, wanted.values[0], given))
            if (folder := self._local_folder(wanted, wanted.slot)) is not None:
                return Brought(str(folder))
            files = await all_or_first_error(
                [self._media_file(value, given, workspace, fetch) for value in wanted.values]
            )
            value = await self._engine.add_input(files, wanted.slot.form, workspace)
            return Brought(value, tuple(files))
        except (StorageError, InvalidInput) as error:
            raise failed(wanted, error) from error
        except OSError as error:
            log.error("Input %s: %s", ascii(wanted.location), ascii(str(error)))
            failure = full_disk(error) or FolderFailed(
                "What the input needs cannot be read from CACHE_DIR, or put into ComfyUI's "
                f"folders: {error.strerror}."
            )
            failure.location = wanted.location
            raise failure from error

    async def _models(self, wanted: Wanted, slot: ModelInput, fetch: _Fetch) -> Any:
        """Return the name of a model, or the names of several."""
        names = await all_or_first_error(
            [self._model(slot, value, fetch) for value in wanted.values]
        )
        return {WRAPPED: names} if wanted.is_list else names[0]

    async def _model(self, slot: ModelInput, value: str, fetch: _Fetch) -> str:
        if not is_address(value):
            return value
        lease = await fetch(value, folder=slot.folders[0])
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

    def _local_folder(self, wanted: Wanted, slot: MediaInput) -> Path | None:
        """Return the folder that is there already, where the input names one and wants its path."""
        if wanted.is_list or slot.form is not FileForm.FOLDER_PATH:
            return None
        found = self._engine.find_file(wanted.values[0])
        return found if found is not None and found.is_dir() else None

    async def _media_file(
        self, value: str, given: Given, workspace: Workspace, fetch: _Fetch
    ) -> InputFile:
        if value.startswith(UPLOAD):
            return uploaded(value, given.uploads)
        if is_address(value):
            return await _fetched(value, fetch)
        local = self._engine.find_file(value)
        if local is not None and local.is_dir():
            raise InvalidInput(f"{value!r} is a folder, and the input takes files.")
        if local is not None:
            return InputFile(local, await asyncio.to_thread(_digest, local), local.suffix.lower())
        if len(value) > THREAD_FROM_CHARACTERS:
            return await asyncio.to_thread(_written, value, workspace)
        return _written(value, workspace)


def linked_name(lease: Lease) -> str:
    """Return the name that a fetched model gets in its folder: readable, and its URL's own."""
    stem = safe_id(PurePosixPath(lease.name).stem)[:MAX_STEM] or "model"
    return f"{stem}-{lease.key[:HASH_LENGTH]}{lease.path.suffix.lower()}"


async def _fetched(url: str, fetch: _Fetch) -> InputFile:
    lease = await fetch(url)
    head = await asyncio.to_thread(_head, lease.path)
    if not is_recognised(lease.name, head):  # it was cached as something else
        raise InvalidInput(f"{lease.url} gives no image, video, sound or 3D model of a known type.")
    found = media_type("", head)
    suffix = extension(found) if found != UNKNOWN else lease.path.suffix.lower()
    return InputFile(lease.path, await lease.digest(), suffix)


def _written(value: str, workspace: Workspace) -> InputFile:
    inline = inline_file(value)
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
