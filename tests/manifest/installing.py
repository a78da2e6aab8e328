"""A ComfyUI's folders to install into, programs that write down how they are called, wheels."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from comfyui_stateless.config import Settings
from comfyui_stateless.manifest import Manifest, Place, install, install_later, read
from tests.wiring import settings_in

NAME = "manifest.yml"


def manifest_of(text: str) -> Manifest:
    return read(text, name=NAME)


@dataclass
class Told:
    """A report that remembers.

    Attributes:
        begun: What was to be done for something.
        outcomes: By entry.
        lines: What programs wrote.
    """

    steps: list[str] = field(default_factory=list)
    begun_entries: list[str] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    moves: list[tuple[str, int, int | None]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def step(self, title: str, entries: int) -> None:
        self.steps.append(title)

    def begun(self, entry: str) -> None:
        self.begun_entries.append(entry)

    def moved(self, entry: str, done: int, total: int | None) -> None:
        self.moves.append((entry, done, total))

    def line(self, entry: str, text: str) -> None:
        self.lines.append(text)

    def ended(self, entry: str, outcome: str) -> None:
        self.outcomes[entry] = outcome

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@dataclass(frozen=True)
class Site:
    """A ComfyUI's folder, with all that an installation touches."""

    folder: Path
    python: Path = Path(sys.executable)
    chosen: Mapping[str, object] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "ComfyUI"

    @property
    def custom_nodes(self) -> Path:
        return self.home / "custom_nodes"

    @property
    def settings(self) -> Settings:
        # The manifest's URLs are trusted without being listed.
        return settings_in(self.folder, **{"http_trusted_origins": None, **self.chosen})

    @property
    def place(self) -> Place:
        return Place(self.home, self.python, self.settings, self.custom_nodes)

    async def install(self, text: str) -> Told:
        """Do the steps before the start."""
        told = Told()
        await install(manifest_of(text), self.place, report=told)
        return told

    async def install_later(self, text: str) -> Told:
        told = Told()
        await install_later(manifest_of(text), self.place, report=told)
        return told


@dataclass(frozen=True)
class Programs:
    """A folder that is first on PATH, of programs that write down how they are called."""

    folder: Path

    def add(self, name: str, body: str = "") -> None:
        """Add a program whose doing is a shell script; its arguments go into a log."""
        path = self.folder / name
        log = self.folder / f"{name}.calls"
        path.write_text(f'#!/bin/sh\necho "$*" >> "{log}"\n{body}\n')
        path.chmod(0o755)

    def calls(self, name: str) -> list[str]:
        """Return the arguments of each call of a program."""
        log = self.folder / f"{name}.calls"
        return log.read_text().splitlines() if log.is_file() else []


def wheel(folder: Path, name: str, version: str = "1.0") -> Path:
    """Make a wheel with nothing but one module in it."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(file, content)
    return path
