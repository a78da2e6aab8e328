"""Models that callers have fetched into model folders ahead of time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from .cache import Cache, DownloadProgress
from .engine import Engine
from .errors import InvalidInput, StatelessError, StorageError
from .naming import header_id, leaves_folder, redacted
from .requests import DownloadRequest
from .texts import cut_short

log = logging.getLogger("comfyui_stateless.downloads")


class Downloaded(NamedTuple):
    """A model that is in its folder now.

    Attributes:
        filename: Its path inside the folder.
        size: Bytes.
        seconds: From the request until it was there.
    """

    filename: str
    size: int
    seconds: float


class Downloads:
    """Fetches models into model folders, in the background where nobody waits."""

    def __init__(self, cache: Cache, engine: Engine) -> None:
        self._cache = cache
        self._engine = engine
        self._running: set[asyncio.Task[None]] = set()

    def check(self, request: DownloadRequest) -> str:
        """See that a request can be begun; return the path that its model will have.

        Raises:
            InvalidInput: The URL, the folder or the name will not do.
        """
        with _naming_reasons():
            self._cache.backend_for(request.url)
        self._engine.model_extensions(request.model_type)
        name = request.filename or _basename(request.url)
        if not name:
            raise InvalidInput(
                "The URL's path has no file name; give one as filename.", location="filename"
            )
        if leaves_folder(name) or not PurePosixPath(name).name:
            raise InvalidInput(
                "filename must be a path inside the model folder.", location="filename"
            )
        return name

    async def fetch(self, request: DownloadRequest) -> Downloaded:
        """Fetch a model and link it into its folder.

        Raises:
            InvalidInput: It cannot be had, or something else has its name.
            StorageError: The server cannot keep it, or make a connection for it, now.
        """
        name = self.check(request)
        began = time.perf_counter()
        with _naming_reasons():
            lease = await self._cache.fetch(
                request.url,
                auth=request.auth,
                sha256=request.sha256,
                refuse_html=True,
                folder=request.model_type,
            )
        try:
            if not PurePosixPath(name).suffix:
                name += lease.path.suffix
            linked = await self._engine.link_model(
                request.model_type, name, lease.path, replace=True
            )
            await lease.add_link(linked.path)
        finally:
            lease.release()
        return Downloaded(linked.name, lease.size, time.perf_counter() - began)

    def start(self, request: DownloadRequest) -> None:
        """Fetch a model while nobody waits for it; the log says how that ends."""
        task = asyncio.create_task(self._fetched(request))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def under_way(self) -> tuple[DownloadProgress, ...]:
        """Return what is being downloaded now, for whomever."""
        return self._cache.downloads()

    async def _fetched(self, request: DownloadRequest) -> None:
        place = cut_short(f"{redacted(request.url)} into {request.model_type}")
        try:
            done = await self.fetch(request)
        except StatelessError as error:
            log.error("Downloading %s failed: %s", ascii(place), ascii(error.message))
        except Exception:
            log.exception("Downloading %s failed", ascii(place))
        else:
            log.info(
                "Downloaded %s as %s: %d bytes in %.1f s",
                ascii(place), header_id(done.filename), done.size, done.seconds,
            )  # fmt: skip


@contextmanager
def _naming_reasons() -> Iterator[None]:
    """Turn what is wrong with a storage into an error of the request, which names it.

    Raises:
        InvalidInput: It cannot be had.
        StorageError: That is the server's own trouble.
    """
    try:
        yield
    except StorageError as error:
        if error.is_servers:
            raise
        raise InvalidInput(
            error.message, location="url", details={"reason": error.code, **error.details}
        ) from error


def _basename(url: str) -> str:
    path = urlsplit(url).path
    return PurePosixPath(path if url.startswith("s3://") else unquote(path)).name
