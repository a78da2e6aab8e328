"""What nodes write straight into ComfyUI's output folder and nobody is told of.

ComfyUI runs one prompt at a time, so what is new at the top of the folder when a run ends is the
run's: files, folders, links, pipes, sockets. It goes into the run's own folder, and with it; the
files are told of first, with the node that ran when they came. What
was there before stays, and so does everything while another process of ours uses the same folder,
as it may be that one's. Files and folders stay, too, that begin with a dot, where packs keep data of
their own, files that this process holds open for writing, and all of them if ComfyUI's routes were used
to send something during the run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import folder_paths

from .claims import Claims
from .files import RunFolder, is_marked

log = logging.getLogger("comfyui_stateless.host")

SETTLED_S = 0.1
"""Age from which a folder's time is known to change with what is put there: clocks are coarse."""

MAX_GRAPHS = 200
MAX_PLACES = 16
"""Folders that are remembered for the nodes of one graph."""


class Stray(NamedTuple):
    """A file that a node wrote without a word.

    Attributes:
        node_id: The node that ran when it came, or the folder that it lies in; None if unknown.
        name: Its path in the output folder, as the node wrote it.
        path: Where it lies now, in the run's own folder.
    """

    node_id: str | None
    name: Path
    path: Path


class Strays:
    """Sees what comes into the output folder while a run executes.

    Its methods are called on the thread that runs nodes, and never raise.

    Args:
        claims: Tell whether another process of ours uses the folder.
    """

    def __init__(self, claims: Claims) -> None:
        self._base = Path()
        self._names: frozenset[str] = frozenset()
        self._changed: int | None = None
        self._began_s = 0.0
        self._is_open = False
        self._makers: dict[str, str | None] = {}
        self._sent = 0
        self._sent_before = 0
        self._sending = 0
        self._places: dict[frozenset[str], dict[str, str | None]] = {}
        self._node_id: str | None = None
        self._wrote: dict[str, str] = {}
        self._noted: int | None = None
        self._claims = claims

    @contextlib.contextmanager
    def others_write(self) -> Iterator[None]:
        """Take what comes into the folder inside the block for somebody else's.

        Called on the event loop's thread, unlike the rest.
        """
        self._sent += 1
        self._sending += 1
        try:
            yield
        finally:
            self._sending -= 1

    def begin(self, class_types: Mapping[str, str]) -> None:
        """Note what is there before a run, and make the folders that its nodes once made.

        They may have done that when they were made themselves, which ComfyUI does once.

        Args:
            class_types: The run's nodes' classes, by their ids.
        """
        self._base = Path(folder_paths.get_output_directory())
        self._began_s = time.time() - SETTLED_S
        self._sent_before = self._sent - self._sending
        self._node_id, self._wrote, self._noted = None, {}, None
        try:
            self._look()
            self._is_open = True
            places = self._places.get(frozenset(class_types.values()), {})
            makers = {Path(name).parts[0]: maker for name, maker in places.items()}
            self._makers = {n: maker for n, maker in makers.items() if n not in self._names}
            for name in places:
                (self._base / name).mkdir(parents=True, exist_ok=True)
        except Exception:  # raising would fail the node, or end the thread
            log.exception("The output folder cannot be read")

    def enter(self, node_id: str) -> None:
        """Note that a node begins: what is new there is of the one before."""
        try:
            if self._is_open and self._changed_at() not in (self._changed, self._noted):
                self._note_new()
        except Exception:
            log.exception("The output folder cannot be read")
        self._node_id = node_id

    def end(self, class_types: Mapping[str, str], folder: RunFolder) -> list[Stray]:
        """Move what is new there into the run's own folder; return the plain files among it."""
        is_open, self._is_open = self._is_open, False
        try:
            if is_open and (found := self._found(folder)) and self._claims.is_alone(self._base):
                self._note_new()
                self._move(found, folder)
                self._remember(class_types, found, folder)
                return list(self._files(class_types, found, folder))
        except Exception:
            log.exception("What nodes left in the output folder could not be removed")
        return []

    def _note_new(self) -> None:
        """Note which names have come, and by which node; large folders take long to list."""
        changed = self._changed_at()
        self._noted = changed if _is_settled(changed) else None
        for name in _names(self._base):
            if name not in self._names and name not in self._makers and self._node_id is not None:
                self._wrote.setdefault(name, self._node_id)

    def _changed_at(self) -> int:
        return self._base.stat().st_mtime_ns

    def _files(
        self, class_types: Mapping[str, str], found: Iterable[Path], folder: RunFolder
    ) -> Iterator[Stray]:
        place = folder.make(self._base, "strays")
        for name in sorted(path.name for path in found):
            maker = self._makers.get(name)
            likely = next((n for n in reversed([*class_types]) if class_types[n] == maker), None)
            for path in sorted(_plain_files(place / name)):
                yield Stray(self._wrote.get(name, likely), path.relative_to(place), path)

    def _look(self) -> None:
        changed = self._changed_at()
        if changed != self._changed:
            self._changed = changed if _is_settled(changed) else None
            self._names = frozenset(_names(self._base))

    def _found(self, folder: RunFolder) -> list[Path]:
        if self._changed_at() == self._changed:
            return []
        new = [n for n in _names(self._base) if n not in self._names and not is_marked(n)]
        found = [path for name in new if self._is_stray(path := self._base / name, folder)]
        kept = _open_for_writing() if found else frozenset()
        return [path for path in found if _identity(path) not in kept]

    def _is_stray(self, path: Path, folder: RunFolder) -> bool:
        with contextlib.suppress(FileNotFoundError):
            found = path.lstat()
            is_own = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
            is_plain = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
            if is_plain and path.name not in self._makers:
                is_own = is_own and self._sent == self._sent_before and path.name[0] != "."
            return is_own and found.st_ctime >= self._began_s and not folder.is_below(path)
        return False

    def _move(self, found: list[Path], folder: RunFolder) -> None:
        place = folder.make(self._base, "strays")
        for path in found:
            with contextlib.suppress(FileNotFoundError):
                path.rename(place / path.name)
        log.info("Nodes left %d things in the output folder; they are taken away", len(found))

    def _remember(
        self, class_types: Mapping[str, str], found: list[Path], folder: RunFolder
    ) -> None:
        place = folder.make(self._base, "strays")
        made = list(islice(_folders(place, [path.name for path in found]), MAX_PLACES))
        if not made:
            return
        if len(self._places) >= MAX_GRAPHS:
            self._places.clear()
        places = self._places.setdefault(frozenset(class_types.values()), {})
        for name in made:
            top = Path(name).parts[0]
            writer = class_types.get(self._wrote.get(top, ""))
            places[name] = writer or self._makers.get(top)
        for name in list(places)[:-MAX_PLACES]:
            del places[name]


def _identity(path: Path) -> tuple[int, int]:
    with contextlib.suppress(OSError):
        found = path.lstat()
        return found.st_dev, found.st_ino
    return 0, 0


def _open_for_writing() -> frozenset[tuple[int, int]]:
    """Return the files that this process can still write to, as a pack's database, on Linux."""
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fdinfo"):  # noqa: PTH208
            with contextlib.suppress(OSError, ValueError, IndexError):
                said = Path("/proc/self/fdinfo", name).read_text()
                flags = int(said.partition("flags:")[2].split()[0], 8)
                if flags & os.O_ACCMODE != os.O_RDONLY:
                    held = os.fstat(int(name))
                    found.add((held.st_dev, held.st_ino))
    return frozenset(found)


def _is_settled(changed_ns: int) -> bool:
    return time.time_ns() - changed_ns > SETTLED_S * 1e9


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def _plain_files(path: Path) -> Iterator[Path]:
    """Yield a file, or those in a folder and below it, but nothing that begins with a dot."""
    is_folder = path.is_dir() and not path.is_symlink()
    alone: list[tuple[str, list[str], list[str]]] = [(str(path.parent), [], [path.name])]
    for folder, below, files in os.walk(path) if is_folder else alone:
        below[:] = [name for name in below if name[0] != "."]
        for file in (Path(folder, name) for name in files if name[0] != "."):
            with contextlib.suppress(OSError):
                if stat.S_ISREG(file.lstat().st_mode):
                    yield file


def _folders(place: Path, names: Iterable[str]) -> Iterator[str]:
    """Yield the folders among the names and below them, from the top down, but no links."""
    for name in names:
        if (place / name).is_dir() and not (place / name).is_symlink():
            for folder, _, _ in os.walk(place / name):
                yield os.path.relpath(folder, place)
