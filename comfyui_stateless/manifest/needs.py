"""What custom nodes need: their requirements.txt and their install.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from . import marks, pip
from .commands import Command, failed, run
from .entries import NodeEntry, Place
from .environment import Watched, requirements_in
from .git import label
from .marks import Mark
from .progress import Report

REQUIREMENTS, INSTALL = "requirements.txt", "install.py"


async def missing(folder: Path, place: Place, packages: Watched) -> list[str]:
    """Return which of the two are to be installed from, and run."""
    mark, names = marks.read(folder), []
    is_done = mark is not None and mark.digest == marks.digest(folder, place)
    content = _content(folder / REQUIREMENTS)
    if content and not await _are_met(content, folder, packages, is_done=is_done):
        names.append(REQUIREMENTS)
    # What others have put there, they have set up.
    if (folder / INSTALL).is_file() and mark is not None and (names or not is_done):
        names.append(INSTALL)
    return names


async def meet(
    entry: NodeEntry, folder: Path, place: Place, packages: Watched, report: Report
) -> str:
    """Install what a custom node requires and run its install.py; return what was done.

    Raises:
        InstallationFailed: One of them fails.
    """
    mark = marks.read(folder)
    names = await missing(folder, place, packages)
    if names:
        report.begun(label(entry))
        # Noted first, so that what fails or is cut off is done again.
        marks.write(folder, replace(mark or Mark(), digest=None))
        packages.changed()
    if REQUIREMENTS in names:
        await _install(entry, folder, place, report)
    if INSTALL in names:
        await _run(entry, folder, place, report)
    digest = marks.digest(folder, place)
    if names or (mark is not None and mark.digest != digest):
        marks.write(folder, replace(mark or Mark(), digest=digest))
    return f", {' and '.join(names)} done" if names else ""


async def _are_met(content: str, folder: Path, packages: Watched, *, is_done: bool) -> bool:
    texts = requirements_in(content)
    if texts is None:
        return is_done
    answer = (await packages.now()).has_all(texts, folder)
    return is_done if answer is None else answer


async def _install(entry: NodeEntry, folder: Path, place: Place, report: Report) -> None:
    path = folder / REQUIREMENTS
    output = await pip.install_file(path, place, label(entry), report)
    if output.code != 0:
        name, _ = pip.installer(place)
        raise failed([entry], f"{name}, for its {REQUIREMENTS}, {output.ending}")


async def _run(entry: NodeEntry, folder: Path, place: Place, report: Report) -> None:
    command = Command(
        [str(place.python), INSTALL],
        folder,
        {"COMFYUI_PATH": str(place.comfy_home), **pip.variables(place)},
    )
    output = await run(command, label(entry), report)
    if output.code != 0:
        raise failed([entry], f"its {INSTALL} {output.ending}")


def _content(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig", errors="replace") if path.is_file() else ""
