"""What leaves the cache: files that were used longest ago, and what dead processes left."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from .counts import Held
from .locks import fetch_lock, locked, try_lock, use_lock
from .names import is_content, key_in
from .records import HALF, nobody_writes, read, record_path

log = logging.getLogger("comfyui_stateless.cache")


class FileEvent(NamedTuple):
    """A file that was downloaded or deleted.

    Attributes:
        url: Without secrets; empty where nobody knows it.
        size: Bytes.
        seconds: That the download took.
    """

    url: str
    path: Path
    size: int
    seconds: float = 0.0


class _Candidate(NamedTuple):
    used: float
    size: int
    key: str
    path: Path


def evict(folder: Path, limit_bytes: int) -> list[FileEvent]:
    """Delete files until the others are within a limit; return those that were cached ones.

    Those used longest ago go first, with their records, locks and links; so do parts that nobody
    fetches. A file that any process uses stays.
    """
    with locked(folder / "eviction.lock"):
        candidates = sorted(_candidates(folder), key=lambda c: c.used)
        over = sum(c.size for c in candidates) - limit_bytes
        deleted = []
        for candidate in candidates:
            if over <= 0:
                break
            event = _delete(folder, candidate)
            if event is not None:
                over -= candidate.size
                deleted.append(event)
    return [event for event in deleted if is_content(event.path.name)]


def make_room(folder: Path, size: int) -> list[FileEvent]:
    """Delete files used longest ago until ``size`` bytes are gone, or nothing may go."""
    return evict(folder, sum(c.size for c in _candidates(folder)) - size)


def held(folder: Path) -> Held:
    """Return how many cached files there are, and their bytes."""
    if not folder.exists():
        return Held(0, 0)  # it is made a little after the start
    sizes = [c.size for c in _candidates(folder) if is_content(c.path.name)]
    return Held(len(sizes), sum(sizes))


def _candidates(folder: Path) -> Iterator[_Candidate]:
    with os.scandir(folder) as entries:
        for entry in entries:
            key = key_in(entry.name)
            if key is None or not (is_content(entry.name) or _is_part(entry.name)):
                continue
            with suppress(FileNotFoundError):
                stat = entry.stat(follow_symlinks=False)
                allocated = getattr(stat, "st_blocks", stat.st_size // 512) * 512
                size = stat.st_size if is_content(entry.name) else min(stat.st_size, allocated)
                used = max(stat.st_atime, 0 if is_content(entry.name) else stat.st_mtime)
                yield _Candidate(used, size, key, Path(entry.path))


def _is_part(name: str) -> bool:
    """Say whether a file is of a download; a record that is being written is no such part."""
    return name.endswith(".part") and not name.endswith(HALF)


def _delete(folder: Path, candidate: _Candidate) -> FileEvent | None:
    """Delete a file, or a part, if nobody uses it; None if somebody does."""
    path = candidate.path
    is_cached = is_content(path.name)
    of_key = use_lock if is_cached else fetch_lock
    lock = try_lock(of_key(folder, candidate.key))
    if lock is None:
        return None
    try:
        record = read(path) if is_cached else None
        path.unlink(missing_ok=True)
        for link in record.links if record else ():
            remove_link(Path(link), path)
        record_path(path).unlink(missing_ok=True)
        if is_cached:
            log.info("Deleted %s (%d bytes) to make room", path.name, candidate.size)
    except OSError as error:
        log.warning("Cannot delete %s: %s", path.name, error.strerror)
        return None
    finally:
        lock.remove()
    return FileEvent(record.url if record else "", path, candidate.size)


def remove_link(link: Path, path: Path) -> None:
    """Remove a symbolic link if it still leads to a file."""
    with suppress(OSError, ValueError):  # a record may have been edited: names can be none
        if link.readlink() == path:
            link.unlink()


def sweep(folder: Path, can_resume: Callable[[str], bool]) -> None:
    """Delete what processes that were killed left beside the files, unless it can be resumed.

    Args:
        can_resume: Says of a key whether its part is good for a download that goes on.
    """
    by_key: dict[str, set[str]] = {}
    for name in os.listdir(folder):  # noqa: PTH208 - names alone are wanted, of many files
        if (key := key_in(name)) is not None:
            by_key.setdefault(key, set()).add(name)
    for key, names in by_key.items():
        contents = {name for name in names if is_content(name)}
        beside = names - contents - {f"{name}.meta" for name in contents}
        if beside - ({f"{key}.lock"} if contents else set()):
            _sweep_key(folder, key, can_resume)


def _sweep_key(folder: Path, key: str, can_resume: Callable[[str], bool]) -> None:
    with _alone(folder, key) as is_alone, nobody_writes(folder):
        if not is_alone:
            return
        names = {path.name for path in folder.glob(f"{key}.*")}
        contents = {name for name in names if is_content(name)}
        keeps = {f"{name}.meta" for name in contents}
        if can_resume(key):
            keeps |= {f"{key}.part", f"{key}.state.part"}
        _unlink(folder, names - contents - keeps - {f"{key}.lock", f"{key}.fetch.lock"})
        lock = None if contents else try_lock(use_lock(folder, key))
        if lock is not None:
            lock.remove()


@contextmanager
def _alone(folder: Path, key: str) -> Iterator[bool]:
    lock = try_lock(fetch_lock(folder, key))
    try:
        yield lock is not None
    finally:
        if lock is not None:
            lock.remove()


def _unlink(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        with suppress(OSError):
            (folder / name).unlink()
