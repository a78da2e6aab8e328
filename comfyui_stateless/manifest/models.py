"""Steps 4 and 5: models, through the cache that ComfyUI's side has too.

At a model's local path stands a symbolic link to the file in the cache. What the manifest names
is held for as long as this process lives: LRU_CACHE_SIZE_GB removes other files only.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ..cache import Cache, Lease
from ..cache.names import is_content, key_in, key_of
from ..errors import InstallationFailed, ManifestError, StatelessError
from ..storage.backends import Backends, open_backends
from ..storage.base import Cancel
from .commands import failed
from .entries import Manifest, ModelEntry, Place
from .progress import Report, size

log = logging.getLogger("comfyui_stateless.manifest")

AT_ONCE = 4
"""Models that are downloaded at once; each over several connections."""

HEADS_AT_ONCE = 8
TOLD_EVERY_S = 0.5

RETRY_DELAYS_S = (10.0, 60.0, 300.0)
"""Seconds before each further try of a model that is wanted after the start."""

_held: list[Callable[[], None]] = []


def release() -> None:
    """Let the cache remove the models too; for the end, when nothing serves them any more."""
    while _held:
        _held.pop()()


async def install(manifest: Manifest, place: Place, report: Report) -> None:
    """Bring the models that are wanted before the start, side by side.

    Raises:
        ManifestError: Two models have the same local path.
        InstallationFailed: One cannot be had.
    """
    _require_different_paths(manifest, place)
    if not manifest.before_start:
        return
    report.step("models", len(manifest.before_start))
    async with _bringing(manifest, place, report) as bringing:
        tasks = [asyncio.ensure_future(bringing.bring(e)) for e in manifest.before_start]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    _warn_of_limit(manifest.before_start, place, report)


async def install_later(
    manifest: Manifest,
    place: Place,
    report: Report,
    retry_delays: Sequence[float] = RETRY_DELAYS_S,
) -> None:
    """Bring the models that are wanted after the start; a failure is told, and tried again."""
    if not manifest.after_start:
        return
    report.step("models, while ComfyUI runs", len(manifest.after_start))
    try:
        async with _bringing(manifest, place, report) as bringing:
            await asyncio.gather(
                *(_keep_trying(bringing, e, report, retry_delays) for e in manifest.after_start)
            )
    except StatelessError as error:
        report.warn(error.message)
    except Exception:
        log.exception("The models for after the start cannot be brought")


async def _keep_trying(
    bringing: _Bringing, entry: ModelEntry, report: Report, delays: Sequence[float]
) -> None:
    for delay in (*delays, None):
        try:
            await bringing.bring(entry)
        except InstallationFailed as error:
            again = "it is not tried again" if delay is None else f"again in {delay:g} s"
            report.warn(f"{error.message} ({again})")
        else:
            return
        if delay is not None:
            await asyncio.sleep(delay)


async def plan(manifest: Manifest, place: Place) -> list[str]:
    """Return what would be done, with the sizes that the origins say."""
    _require_different_paths(manifest, place)
    backends, slots = open_backends(place.settings, trusting=True), asyncio.Semaphore(HEADS_AT_ONCE)

    async def line(entry: ModelEntry) -> str:
        async with slots:
            todo = await asyncio.to_thread(_todo, entry, place, backends)
        when = "" if entry in manifest.before_start else " after the start"
        return f"model {entry.local_path}{when}: {todo}"

    try:
        return list(await asyncio.gather(*map(line, manifest.models)))
    finally:
        await asyncio.to_thread(backends.close)


def _todo(entry: ModelEntry, place: Place, backends: Backends) -> str:
    path = entry.path_in(place.comfy_home)
    if _is_there(entry, path, place.settings.cache_dir):
        return f"{path}, already there"
    if path.is_dir():
        return f"impossible: {path} is a folder"
    cached = place.settings.cache_dir.glob(f"{key_of(entry.text)}.*")
    if any(is_content(each.name) for each in cached):
        return f"link {path} to the file in the cache"
    try:
        info = backends.for_url(entry.text).head(entry.text, None, Cancel())
    except StatelessError as error:
        return f"download {entry} to {path}; it cannot be had now: {error.message}"
    cost = "of unknown size" if info.size is None else size(info.size)
    return f"download {entry} to {path}, {cost}"


class _Bringing:
    """Brings models; several at once."""

    def __init__(self, cache: Cache, place: Place, report: Report) -> None:
        self._cache = cache
        self._place = place
        self._report = report
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def bring(self, entry: ModelEntry) -> None:
        """Put a model where it belongs.

        Raises:
            InstallationFailed: It cannot be had.
        """
        path, label = entry.path_in(self._place.comfy_home), f"model {entry.local_path}"
        try:
            async with self._slots:
                outcome = await self._bring(entry, path, label)
        except StatelessError as error:
            raise failed([entry], error.message) from error
        except OSError as error:
            reason = f"{path} cannot be made: {error.strerror}"
            raise failed([entry], reason) from error
        self._report.ended(label, outcome)

    async def _bring(self, entry: ModelEntry, path: Path, label: str) -> str:
        if _is_there(entry, path, self._cache.folder):
            return "already there"
        if await asyncio.to_thread(path.is_dir):
            raise StatelessError(f"{path} is a folder.")
        self._report.begun(label)
        lease = await self._fetch(entry, label)
        _held.append(lease.release)
        await asyncio.to_thread(_link, path, lease.path)
        await lease.add_link(path)
        source = "the cache" if lease.was_cached else entry
        return f"{size(lease.size)} from {source}, {path}"

    async def _fetch(self, entry: ModelEntry, label: str) -> Lease:
        telling = asyncio.ensure_future(self._tell(entry, label))
        try:
            return await self._cache.fetch(entry.text, sha256=entry.sha256, refuse_html=True)
        finally:
            telling.cancel()

    async def _tell(self, entry: ModelEntry, label: str) -> None:
        while True:
            await asyncio.sleep(TOLD_EVERY_S)
            if progress := self._cache.progress(entry.text):
                self._report.moved(label, progress.bytes, progress.total)


@asynccontextmanager
async def _bringing(manifest: Manifest, place: Place, report: Report) -> AsyncIterator[_Bringing]:
    """Open the cache; first of all, hold what the manifest names and it has."""
    settings = place.settings
    backends = open_backends(settings, trusting=True)
    cache = Cache(settings.cache_dir, backends.for_url, limit_bytes=settings.cache_bytes)
    try:
        try:
            await _hold(manifest.models, cache, place)
            await cache.start()
        except OSError as error:
            reason = f"CACHE_DIR, {settings.cache_dir}, cannot be used: {error.strerror}"
            raise InstallationFailed(f"{manifest.source}, models: {reason}.") from error
        yield _Bringing(cache, place, report)
    finally:
        await cache.close()
        await asyncio.to_thread(backends.close)


async def _hold(entries: Iterable[ModelEntry], cache: Cache, place: Place) -> None:
    for entry in entries:
        path = entry.path_in(place.comfy_home)
        if _is_there(entry, path, cache.folder) and (drop := await cache.hold(path)):
            _held.append(drop)


def _is_there(entry: ModelEntry, path: Path, cache_folder: Path) -> bool:
    """Say whether a model is at its path; a link to what another URL had in the cache is not it."""
    if not path.is_file():
        return False
    target = path.resolve()
    is_cached = path.is_symlink() and target.parent == cache_folder.resolve()
    return not is_cached or key_in(target.name) in (None, key_of(entry.text))


def _link(path: Path, target: Path) -> None:
    """Make a symbolic link, in place of one that led elsewhere or nowhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{secrets.token_hex(8)}.part")
    half.symlink_to(target)
    try:
        half.replace(path)
    except BaseException:
        half.unlink(missing_ok=True)
        raise


def _require_different_paths(manifest: Manifest, place: Place) -> None:
    first: dict[str, ModelEntry] = {}
    for entry in manifest.models:
        path = entry.path_in(place.comfy_home)
        other = first.setdefault(str(path.parent.resolve() / path.name), entry)
        if other is not entry:
            raise ManifestError(
                f"{entry.where}: its local_path, {path}, is that of {other.path} in line "
                f"{other.line}."
            )


def _warn_of_limit(entries: Iterable[ModelEntry], place: Place, report: Report) -> None:
    limit = place.settings.cache_bytes
    paths = [entry.path_in(place.comfy_home) for entry in entries]
    total = sum(path.stat().st_size for path in paths if path.is_symlink() and path.is_file())
    if limit and total > limit:
        report.warn(
            f"The manifest's models take {size(total)}, more than LRU_CACHE_SIZE_GB "
            f"({size(limit)}); they stay, and other files leave the cache as soon as it may."
        )
