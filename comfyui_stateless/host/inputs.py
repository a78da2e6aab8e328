"""Files that jobs bring along, where nodes look for them, and files that are there already.

A file gets a name that tells its content, directly in ComfyUI's input folder, and stays while any
job uses it: the same content has the same name and time in every job, which is what ComfyUI's
cache and the caches of packs go by.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import folder_paths

from ..engine import FileForm, InputFile
from .files import MESHES, RunFolder, marked, remove

log = logging.getLogger("comfyui_stateless.host")

FIXED_TIME_S = 946_684_800
"""Modification time of files that are not linked from somewhere else: 2000-01-01."""

AGAIN_S, MOST_AGAIN_S = 2.0, 300.0
"""Before something is deleted that could not be; twice as long each time."""

DIGEST_LENGTH = 32

MAX_TEXT = 4096
"""Characters from which a text is no path; it may be megabytes of base64."""

_EXTENSION = re.compile(r"\.[a-z0-9]{1,15}(\.[a-z0-9]{1,15})?")
_MESH_EXTENSIONS = frozenset(
    {".fbx", ".glb", ".gltf", ".ksplat", ".obj", ".ply", ".splat", ".spz", ".stl", ".usdz"}
)
_IN_FOLDER = (FileForm.FOLDER, FileForm.FOLDER_PATH)
_AS_PATH = (FileForm.PATH, FileForm.FOLDER_PATH)
_KINDS = ("input", "output", "temp")


class InputFiles:
    """Puts files into ComfyUI's input folder, each once, for as long as a job uses it."""

    def __init__(self) -> None:
        self._placed: dict[Path, _Placed] = {}
        self._removals: set[asyncio.Future[list[Path]]] = set()

    async def add(self, files: Sequence[InputFile], form: FileForm, workspace: RunFolder) -> str:
        """Put files into the input folder until ``workspace`` is left; return the input's value.

        Args:
            files: One, or for the forms of a folder any number.

        Raises:
            OSError: They cannot be put there.
        """
        name = _name(files, form)
        path = Path(folder_paths.get_input_directory(), name)
        placed = self._placed.setdefault(path, _Placed())
        placed.users += 1
        workspace.defer(partial(self._release, path, workspace))
        is_there = False
        while not is_there:
            is_there = await _is_put(placed, path, files, workspace, in_folder=form in _IN_FOLDER)
        return str(path) if form in _AS_PATH else name

    def _release(self, path: Path, workspace: RunFolder) -> None:
        placed = self._placed[path]
        placed.users -= 1
        if placed.placing is None or placed.placing.done():
            self._drop(path, workspace.discard)
        else:
            placed.placing.add_done_callback(lambda _: self._drop(path, self._remove))

    def _drop(self, path: Path, discard: Callable[[Path], None]) -> None:
        placed = self._placed.get(path)
        if placed is None or placed.users:
            return
        del self._placed[path]
        self._clear(path, discard, AGAIN_S)

    def _clear(self, path: Path, discard: Callable[[Path], None], again_s: float) -> None:
        """Delete what nobody uses, later on where it cannot be deleted now.

        What is missing has gone with its folder, which may come back, as mounts do.
        """
        if path in self._placed:
            return  # another job brought the same since
        try:
            if path.is_dir():
                # Out of the way at once, so that the name is free for the next job.
                discard(path.replace(path.with_name(marked(f"gone-{secrets.token_hex(8)}"))))
            else:
                path.unlink()
        except OSError as error:
            is_missing = isinstance(error, FileNotFoundError)
            if is_missing and again_s == MOST_AGAIN_S:
                return
            if again_s == AGAIN_S and not is_missing:
                log.warning("Could not delete %s yet: %s", path, error.strerror)
            wait_s = min(2 * again_s, MOST_AGAIN_S)
            loop = asyncio.get_running_loop()
            loop.call_later(again_s, self._clear, path, self._remove, wait_s)

    def _remove(self, path: Path) -> None:
        removal = asyncio.get_running_loop().run_in_executor(None, remove, [path])
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)


@dataclass
class _Placed:
    """Something in the input folder.

    Attributes:
        users: Jobs that need it.
        placing: Is done when it is there.
    """

    users: int = 0
    placing: asyncio.Task[None] | None = None

    def is_missing(self, path: Path) -> bool:
        """Say whether nobody puts it there, or nobody could, or it was deleted since."""
        return self.placing is None or (self.placing.done() and not path.exists())


async def _is_put(
    placed: _Placed, path: Path, files: Sequence[InputFile], run: RunFolder, *, in_folder: bool
) -> bool:
    """Put files where nodes read them; say whether they are there.

    False is for a failure of another job, whose own files may have gone with it.
    """
    is_ours = placed.is_missing(path)
    if is_ours or placed.placing is None:
        stamped = tuple(run.owns(file.path) for file in files)
        place = _place_folder if in_folder else _place
        placed.placing = asyncio.create_task(asyncio.to_thread(place, path, files, stamped))
        placed.placing.add_done_callback(_seen)
    try:
        # Shielded: others may wait for the same, and what is half done must come to an end.
        await asyncio.shield(placed.placing)
    except OSError:
        if is_ours:
            raise
        return False
    return True


def _seen(placing: asyncio.Task[None]) -> None:
    if not placing.cancelled():
        placing.exception()  # those who still wait get it; asyncio need not complain


def find_file(text: str) -> Path | None:
    """Return the file, or folder, inside ComfyUI's own folders that a media input's text names.

    A relative path counts from the input folder, or from the folder that a ``[output]`` or the
    like behind it names; if there is nothing, from the working directory, as some packs have it.
    Links are followed first: one that leads out of the folder names nothing.
    """
    if not text.strip() or len(text) > MAX_TEXT:
        return None
    name, annotated = folder_paths.annotated_filepath(text)
    base = annotated or folder_paths.get_input_directory()
    found = _inside(Path(base, name), base)
    if found is None and annotated is None:
        places = [folder_paths.get_directory_by_type(kind) for kind in _KINDS]
        found = _inside(Path(name), *places)  # absolute by then, unless that directory is gone
    return found


def _inside(path: Path, *places: str) -> Path | None:
    try:
        real = Path(os.path.realpath(path))
        is_inside = any(real.is_relative_to(os.path.realpath(place)) for place in places)
        return real if is_inside and real.exists() else None
    except (OSError, ValueError):  # the text is no path at all
        return None


def _name(files: Sequence[InputFile], form: FileForm) -> str:
    if form in _IN_FOLDER:
        contents = "".join(f"{file.digest}{_extension(file)}/" for file in files)
        return marked(hashlib.sha256(contents.encode()).hexdigest()[:DIGEST_LENGTH])
    (file,) = files
    name = marked(f"{file.digest[:DIGEST_LENGTH]}{_extension(file)}")
    return f"{MESHES}/{name}" if file.extension in _MESH_EXTENSIONS else name


def _extension(file: InputFile) -> str:
    return file.extension if _EXTENSION.fullmatch(file.extension) else ""


def _place(path: Path, files: Sequence[InputFile], stamped: Sequence[bool]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        _link_or_copy(files[0].path, part, stamped=stamped[0])
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _place_folder(path: Path, files: Sequence[InputFile], stamped: Sequence[bool]) -> None:
    part = path.with_name(f"{path.name}.part")
    remove([part] if part.exists() else [])
    try:
        part.mkdir(parents=True)
        for number, (file, is_ours) in enumerate(zip(files, stamped, strict=True), 1):
            target = part / f"{number:05}{_extension(file)}"
            _link_or_copy(file.path, target, stamped=is_ours)
        part.replace(path)
    except BaseException:
        remove([part])
        raise


def _link_or_copy(source: Path, target: Path, *, stamped: bool) -> None:
    """Make ``target`` a hard link of a file, or a copy where there can be none.

    Never a symbolic link: ComfyUI refuses those that lead out of its input folder.

    Args:
        stamped: Whether the source is the run's own, so that its time may be fixed.
    """
    source = Path(os.path.realpath(source))
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        stamped = True
    if stamped:
        os.utime(target, (FIXED_TIME_S, FIXED_TIME_S))
