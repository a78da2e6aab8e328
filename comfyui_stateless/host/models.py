"""Files of the cache in ComfyUI's model folders, by links that ComfyUI lists at once."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

import folder_paths

from ..engine import LinkedModel
from ..errors import InvalidInput
from ..naming import leaves_folder

CODE_FOLDER = "custom_nodes"
"""A folder of ComfyUI's that holds code: nothing is ever put there."""


class ModelFolders:
    """Links files into the folders that ComfyUI takes models from.

    Args:
        cache_folder: A link that leads into it is one of ours. None if none is.
    """

    def __init__(self, cache_folder: Path | None) -> None:
        self._cache_folder = cache_folder

    def extensions(self, folder: str) -> frozenset[str]:
        """Return the extensions that a model folder lists, with their dots; empty is any.

        Raises:
            InvalidInput: There is no such folder.
        """
        return frozenset(extension.lower() for extension in _registered(folder)[1])

    def file(self, folder: str, name: str) -> Path | None:
        """Return where a file of a model folder is, None if it is not there."""
        path = folder_paths.get_full_path(folder, name)
        return None if path is None else Path(path)

    def link(self, folder: str, name: str, target: Path, *, replace: bool = False) -> LinkedModel:
        """Link a file, or a folder, into a model folder and have ComfyUI list it at once.

        Args:
            name: A path inside the folder.
            replace: Whether a link of ours that is there may be pointed to ``target``.

        Raises:
            InvalidInput: There is no such folder, the name leads out of it, or something else
                lies there.
            OSError: The folder cannot be written.
        """
        root = _root(folder)
        path = root / name
        if not name or leaves_folder(name) or not _is_inside(path.parent, root):
            raise InvalidInput(f"{name!r} is no path inside the model folder {folder}.")
        is_taken = self._is_taken(path, replace=replace)  # seen first: others may link it now
        if _leads_to(path, target):
            _list(folder, path, root)
        elif is_taken:
            raise InvalidInput(
                f"The model folder {folder} already has another file named {name}; "
                "choose another name or remove that file."
            )
        else:
            _link(path, target)
            _refresh(folder, path.parent)
        return LinkedModel(os.path.relpath(path, root), path)

    def _is_taken(self, path: Path, *, replace: bool) -> bool:
        if path.is_symlink() and (not path.exists() or (replace and self._is_ours(path))):
            return False
        return os.path.lexists(path)

    def _is_ours(self, link: Path) -> bool:
        return self._cache_folder is not None and _is_inside(link, self._cache_folder)


def _registered(folder: str) -> Any:
    """Return the roots and the extensions of a model folder."""
    name = folder_paths.map_legacy(folder)
    if name == CODE_FOLDER or name not in folder_paths.folder_names_and_paths:
        known = sorted(set(folder_paths.folder_names_and_paths) - {CODE_FOLDER})
        raise InvalidInput(
            f"ComfyUI has no model folder named {folder!r}; it has {', '.join(known)}."
        )
    return folder_paths.folder_names_and_paths[name]


def _root(folder: str) -> Path:
    """Return the root for new files: the default one, else the one named like the folder.

    ComfyUI puts a default root in front of its own, and writes down no more than that.
    """
    roots = [Path(root) for root in _registered(folder)[0]]
    if not roots:
        raise InvalidInput(f"ComfyUI's model folder {folder!r} has no place on the disk.")
    own = Path(folder_paths.models_dir)
    if not roots[0].is_relative_to(own) and any(root.is_relative_to(own) for root in roots):
        return roots[0]
    name = folder_paths.map_legacy(folder)
    return next((root for root in roots if root.name == name), roots[0])


def _is_inside(path: Path, root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def _leads_to(path: Path, target: Path) -> bool:
    try:
        if path.samefile(target):
            return True
        found, wanted = path.stat(), target.stat()
    except OSError:
        return False
    is_copy = path.is_file() and not path.is_symlink()
    return is_copy and (found.st_size, found.st_mtime_ns) == (wanted.st_size, wanted.st_mtime_ns)


def _link(path: Path, target: Path) -> None:
    """Put a link where none is, or in place of one, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        _link_or_copy(target.absolute(), fresh)
        fresh.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise


def _link_or_copy(target: Path, path: Path) -> None:
    with contextlib.suppress(OSError, NotImplementedError):
        path.symlink_to(target, target_is_directory=target.is_dir())
        return
    if target.is_dir():
        shutil.copytree(target, path)
        return
    try:
        os.link(target, path)
    except OSError:
        shutil.copy2(target, path)


def _list(folder: str, path: Path, root: Path) -> None:
    """Have ComfyUI look again if it does not list a file that is there."""
    if os.path.relpath(path, root) not in folder_paths.get_filename_list(folder):
        _refresh(folder, path.parent)


def _refresh(folder: str, changed: Path) -> None:
    """Have ComfyUI list a model folder anew.

    A list that a thread began before the link was made could be kept after this, if the file
    system's clock has not ticked in between: so the folder gets a time that nobody has seen.
    """
    now = time.time_ns()
    with contextlib.suppress(OSError):  # somebody else's folder that we may only write into
        os.utime(changed, ns=(now, now))
    folder_paths.filename_list_cache.pop(folder_paths.map_legacy(folder), None)
