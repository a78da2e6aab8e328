"""Puts this extension into a ComfyUI's ``custom_nodes``, where ComfyUI looks for it.

A folder there has to hold the entry that ComfyUI imports, the package beside it, and the pages'
scripts. In a checkout that is the checkout itself. An installed wheel has the entry and the scripts
inside of the package, so a folder is made that leads to all of them.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
from pathlib import Path

from ..errors import ConfigError

NAME = "comfyui-stateless"
"""The name of the folder, and of the project."""

MARK = ".linked-by-launcher"
"""A file in folders that were made here: what is in them may be replaced."""

ENTRY = "__init__.py"
SCRIPTS = "js"

PACKAGE = Path(__file__).resolve().parents[1]

log = logging.getLogger("comfyui_stateless.launcher")

_NAMED = re.compile(rf'^name = "{NAME}"\s*$', re.MULTILINE)


def link(custom_nodes: Path) -> Path:
    """Make sure that ComfyUI finds this extension; return its folder in ``custom_nodes``.

    A copy of the extension that is there already, under any name, is left as it is.

    Raises:
        ConfigError: The folder cannot be written, or something else has the extension's name.
    """
    found = installed(custom_nodes)
    if found is not None:
        if not found.samefile(PACKAGE.parent):
            log.info("ComfyUI runs the extension that is at %s.", found)
        return found
    place = custom_nodes / NAME
    try:
        custom_nodes.mkdir(parents=True, exist_ok=True)
        return _to_checkout(place) if _is_ours(PACKAGE.parent) else _to_package(place)
    except OSError as error:
        raise ConfigError(
            f"The extension cannot be linked to {place}: {error.strerror}. Make {custom_nodes} "
            f"writable for this user, or put the extension there yourself."
        ) from error


def installed(custom_nodes: Path) -> Path | None:
    """Return the folder of a copy of the extension that ComfyUI will load, None for none.

    Folders that were made here do not count.
    """
    folders = sorted(custom_nodes.iterdir()) if custom_nodes.is_dir() else []
    for folder in folders:
        if folder.suffix != ".disabled" and not (folder / MARK).exists() and _is_ours(folder):
            return folder
    return None


def _is_ours(folder: Path) -> bool:
    """Whether a folder is a checkout or a copy of this project."""
    try:
        text = (folder / "pyproject.toml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return _NAMED.search(text) is not None and (folder / ENTRY).is_file()


def _to_checkout(place: Path) -> Path:
    _clear(place)
    _link_folder(place, PACKAGE.parent)
    return place


def _to_package(place: Path) -> Path:
    """Make the folder; one of an earlier start, perhaps of another Python, is made anew."""
    shipped = PACKAGE / "custom_node"
    if not (shipped / ENTRY).is_file():
        raise ConfigError(f"{PACKAGE} is not whole: install comfyui-stateless again.")
    if _leads_to(place, shipped):
        return place
    _clear(place)
    # Beside its place first: ComfyUI never sees half of it.
    partial = place.with_name(f".{NAME}.{os.getpid()}")
    partial.mkdir()
    try:
        (partial / MARK).touch()
        _link_file(partial / ENTRY, shipped / ENTRY)
        _link_folder(partial / PACKAGE.name, PACKAGE)
        if (shipped / SCRIPTS).is_dir():
            _link_folder(partial / SCRIPTS, shipped / SCRIPTS)
        partial.rename(place)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return place


def _leads_to(place: Path, shipped: Path) -> bool:
    """Whether a folder that was made here is as it would be made now."""
    try:
        same = (place / ENTRY).read_bytes() == (shipped / ENTRY).read_bytes()
        scripts = (place / SCRIPTS).exists() == (shipped / SCRIPTS).exists()
        return same and scripts and (place / PACKAGE.name).resolve() == PACKAGE
    except OSError:
        return False


def _clear(place: Path) -> None:
    """Remove a link that leads nowhere, or a folder that was made here."""
    if place.is_symlink() and not place.exists():
        place.unlink()
    elif (place / MARK).exists():
        for entry in place.iterdir():
            entry.unlink() if not _is_junction(entry) else entry.rmdir()
        place.rmdir()
    elif place.exists():
        raise ConfigError(f"{place} is there and is not this extension: move it away.")


def _is_junction(entry: Path) -> bool:
    return sys.platform == "win32" and not entry.is_symlink() and entry.is_dir()


def _link_folder(link: Path, target: Path) -> None:
    if sys.platform == "win32":
        import _winapi

        # A junction, unlike a symbolic link, needs no special right.
        _winapi.CreateJunction(str(target), str(link))
    else:
        link.symlink_to(target, target_is_directory=True)


def _link_file(link: Path, target: Path) -> None:
    if sys.platform == "win32":
        shutil.copyfile(target, link)
    else:
        link.symlink_to(target)
