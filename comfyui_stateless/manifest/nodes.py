"""Step 3: custom nodes, and what they need."""

from __future__ import annotations

import asyncio
import errno
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from ..cache.locks import try_lock
from . import git, marks, needs, registry
from .entries import Manifest, NodeEntry, Place
from .environment import Watched
from .git import Git, label
from .marks import Mark
from .progress import LogReport, Report

LOCK = ".comfyui-stateless.lock"
HALF = ".part.disabled"
"""How the folder of a clone that is not whole ends: ComfyUI loads nothing from such."""

POLL_S = 0.2


async def install(manifest: Manifest, place: Place, report: Report) -> None:
    """Bring the custom nodes, one after the other, with what each needs.

    Raises:
        InstallationFailed: One cannot be had, or what it needs cannot be installed.
    """
    if not manifest.custom_nodes:
        return
    report.step("custom nodes", len(manifest.custom_nodes))
    place.custom_nodes.mkdir(parents=True, exist_ok=True)
    async with _alone(place, report):
        _sweep(place)
        packages = Watched(place.python)
        for entry in manifest.custom_nodes:
            installing = _Installing(entry, place, packages, report)
            report.ended(label(entry), await installing.install())


async def plan(manifest: Manifest, place: Place) -> list[str]:
    """Return what ``install`` would do."""
    packages, lines = Watched(place.python), []
    for entry in manifest.custom_nodes:
        todo = await _Installing(entry, place, packages, LogReport()).todo()
        lines.append(f"{label(entry)}: {todo}")
    return lines


class _Installing:
    """One custom node that is to be brought."""

    def __init__(self, entry: NodeEntry, place: Place, packages: Watched, report: Report) -> None:
        self._entry = entry
        self._place = place
        self._packages = packages
        self._report = report

    @property
    def _folder(self) -> Path:
        """Where the clone of a repository belongs."""
        return self._place.custom_nodes / self._entry.name

    async def install(self) -> str:
        """Bring it; return what was done."""
        if self._entry.clone_url is None:
            return await self._install_by_name()
        folder, outcome = self._folder, "already there"
        if not folder.is_dir():
            await self._clone()
            outcome = "cloned"
        elif (folder / ".git").exists():
            outcome = await self._move()
        elif self._entry.ref is not None:
            self._warn("it is no clone")
        return outcome + await self._meet_needs(folder)

    async def todo(self) -> str:
        """Return what ``install`` would do."""
        entry, folder = self._entry, self._folder
        at = f" at ref {entry.ref}" if entry.ref else ""
        if entry.clone_url is None:
            if not registry.is_there(entry, self._place.custom_nodes):
                return "install with comfy" + (
                    "" if shutil.which("comfy") else ", which is missing"
                )
            folder = registry.find(entry.name, self._place.custom_nodes) or folder
        elif not folder.is_dir():
            return f"clone {entry.clone_url}{at} to {folder}"
        elif (folder / ".git").exists() and not await self._stays():
            obstacle = await self._obstacle()
            return f"fetch and check out{at}" if obstacle is None else f"left as it is: {obstacle}"
        names = await needs.missing(folder, self._place, self._packages)
        return "already there" + (f", its {' and '.join(names)} to be installed" if names else "")

    async def _install_by_name(self) -> str:
        entry, custom_nodes = self._entry, self._place.custom_nodes
        folder = registry.find(entry.name, custom_nodes)
        if folder is not None and registry.is_there(entry, custom_nodes):
            return "already there" + await self._meet_needs(folder)
        self._report.begun(label(entry))
        prefix = (await self._packages.now()).prefix
        self._packages.changed()
        folder = await registry.install(entry, self._place, prefix, self._report)
        marks.write(folder, Mark(marks.digest(folder, self._place)))
        return "installed"

    async def _meet_needs(self, folder: Path) -> str:
        return await needs.meet(self._entry, folder, self._place, self._packages, self._report)

    async def _clone(self) -> None:
        """Clone a repository: whole, or not at all."""
        entry = self._entry
        self._report.begun(label(entry))
        half = self._folder.with_name(f".{entry.name}.{secrets.token_hex(4)}{HALF}")
        half.mkdir()
        try:
            await git.clone(Git(entry, half, self._place, self._report))
            marks.write(half, Mark(ref=entry.ref))
            half.rename(self._folder)
        except BaseException:
            shutil.rmtree(half, ignore_errors=True)
            raise

    def _git(self) -> Git:
        return Git(self._entry, self._folder, self._place, self._report)

    async def _stays(self) -> bool:
        """Say whether a clone that is there is at the wanted ref; without one, any will do."""
        mark, ref = marks.read(self._folder) or Mark(), self._entry.ref
        if mark.is_moving:
            return False
        if ref is None:
            return mark.ref is None
        is_known = ref.startswith("refs/") and mark.ref == ref
        return is_known or await git.is_at(self._git(), ref)

    async def _obstacle(self) -> str | None:
        mark = marks.read(self._folder)
        return None if mark is not None and mark.is_moving else await git.obstacle(self._git())

    async def _move(self) -> str:
        """Bring a clone that is there to the wanted ref; return what was done."""
        if await self._stays():
            return "already there"
        obstacle = await self._obstacle()
        if obstacle is not None:
            self._warn(obstacle)
            return "left as it is"
        mark, repository = marks.read(self._folder) or Mark(), self._git()
        self._report.begun(label(self._entry))
        depth = await git.depth_of(repository)
        commit = await git.fetch(repository, depth)
        git.unlock(self._folder)
        marks.write(self._folder, replace(mark, is_moving=True))
        await git.check_out(repository, commit, force=mark.is_moving)
        marks.write(self._folder, Mark(mark.digest, ref=self._entry.ref))
        return f"brought to {self._entry.ref or 'its default branch'}"

    def _warn(self, reason: str) -> None:
        entry = self._entry
        self._report.warn(f"{entry.where} ({entry}): {self._folder} is left as it is: {reason}")


@asynccontextmanager
async def _alone(place: Place, report: Report) -> AsyncIterator[None]:
    """Be the one, of all who share the folder, that installs custom nodes."""
    told = False
    try:
        while (lock := try_lock(place.custom_nodes / LOCK)) is None:
            if not told:
                report.warn(f"Another process installs custom nodes into {place.custom_nodes}.")
            told = True
            await asyncio.sleep(POLL_S)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
        lock = None  # nothing can be put there, by anybody
    try:
        yield
    finally:
        if lock is not None:
            lock.remove()


def _sweep(place: Place) -> None:
    """Remove what an installation that was killed has left half done."""
    for path in place.custom_nodes.glob(f".*{HALF}"):
        shutil.rmtree(path, ignore_errors=True)
    registry.forget_half_done(place)
