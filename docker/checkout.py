"""The checkout's own environments: the base, and an overlay for each other ComfyUI."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from docker import azurite, browser, fuzzing, neighbours, packaging, torch_builds, workflow_packages
from docker.environments import Environment, key_of
from docker.steps import Console, SetupError

# ComfyUI 0.3.52 and 0.3.75 import it and do not name it.
UNNAMED_REQUIREMENTS = ("requests",)


@dataclass(frozen=True)
class Checkout:
    """A checkout of this project: its folders, and what is to be installed in them."""

    root: Path
    console: Console

    @property
    def store(self) -> Path:
        return self.root / ".comfyui"

    @property
    def requirements(self) -> Path:
        return self.root / "requirements.txt"

    @property
    def base(self) -> Environment:
        return Environment(self.root / ".venv")

    def ensure_base(self) -> Environment:
        """Return the base environment, with pip; it is made where it is missing."""
        self.base.make(self.console, with_pip=True)
        return self.base

    def ensure_development_tools(self) -> None:
        """Put linters, type checker and pytest into the base, beside this project's requirements."""
        base = self.ensure_base()
        tools = development_requirements(self.root / "pyproject.toml")

        def install() -> None:
            with self.console.step("the development tools"):
                base.pip_install(self.console, ["-r", self.requirements, *tools])

        base.ensure("tools", key_of([*tools, self.requirements]), install)

    def ensure_test_servers(self) -> None:
        """Get the servers that the tests run and that no Python package brings."""
        azurite.ensure(self.store / "azurite", self.console)
        browser.ensure_chromium(self.console)
        frontend = self.store / "frontends" / browser.FRONTEND
        browser.ensure_frontend(frontend, self.console, self.ensure_base().python)
        lists = self.root / "comfyui_stateless" / "workflows" / "node"
        workflow_packages.ensure(self.store / "workflow-packages", lists, self.console)
        neighbours.ensure(self.store / "neighbours", self.console, self.ensure_base().python)

    def ensure_fuzzer(self) -> None:
        """Put the fuzzer into the base where there is one for its Python; elsewhere say so."""
        fuzzing.ensure(self.ensure_base(), self.console)

    def ensure_packaging_tools(self) -> None:
        """Make the environment of what builds and checks packages, images and manifests."""
        packaging.ensure(Environment(self.store / "packaging"), self.console)

    def ensure_torch(self) -> Environment:
        """Return the base environment with torch for this machine's device in it."""
        base = self.ensure_base()
        present = base.stamps().get("torch")
        # A build for a GPU also runs while the GPU is away, and is gigabytes to get again.
        build = present if present == torch_builds.DEFAULT else torch_builds.wanted_build()

        def install() -> None:
            with self.console.step(f"torch, torchvision, torchaudio ({build} build)"):
                torch_builds.install(base, build, self.console)
            if missing := torch_builds.missing_parts(base):
                self.console.note(
                    f"{' and '.join(missing)} cannot be imported: ComfyUI will lack the nodes that need it"
                )

        base.ensure("torch", build, install)
        return base

    def ensure_in_base(self, home: Path) -> Path:
        """Put a ComfyUI's requirements, and ours, into the base. Returns its Python."""
        base = self.ensure_torch()
        self._ensure_requirements(base, home, [])
        return base.python

    def ensure_overlay(self, home: Path) -> Path:
        """Make an environment of what a ComfyUI needs beyond the base. Returns its Python."""
        base = self.ensure_torch()
        overlay = Environment(self.store / "envs" / self._overlay_name(home))
        overlay.make(self.console, with_pip=False)
        # pip too comes from the base, and counts what is there as installed.
        path_file = overlay.site_packages / "base.pth"
        path_file.write_text(f"{base.site_packages}\n", encoding="utf-8")
        base_state = json.dumps(base.stamps(), sort_keys=True)
        self._ensure_requirements(overlay, home, [str(base.folder), base_state])
        return overlay.python

    def _overlay_name(self, home: Path) -> str:
        if home.parent == self.store:
            return home.name
        return f"{home.name}-{hashlib.sha256(str(home).encode()).hexdigest()[:8]}"

    def _ensure_requirements(self, target: Environment, home: Path, also: list[str]) -> None:
        files = [home / "requirements.txt", self.requirements]
        if not files[0].is_file():
            raise SetupError(f"{files[0]} is missing: set COMFY_PYTHON to that ComfyUI's Python")

        def install() -> None:
            with self.console.step(f"the requirements of the ComfyUI at {home}"):
                pins = self._torch_pins()
                options: list[str | Path] = ["--constraint", pins]
                options += ["-r", files[0], "-r", files[1], *UNNAMED_REQUIREMENTS]
                target.pip_install(self.console, options)

        target.ensure("comfyui", key_of([*also, *files]), install)

    def _torch_pins(self) -> Path:
        """Write down the installed torch packages, so that no requirement brings in others."""
        found = distributions(path=[str(self.base.site_packages)])
        pins = {d.name: d.version for d in found if d.name in torch_builds.PACKAGES}
        file = self.store / "torch-pins.txt"
        file.write_text("".join(f"{name}=={v}\n" for name, v in pins.items()), encoding="utf-8")
        return file


def development_requirements(pyproject: Path) -> list[str]:
    """Return the `dev` extra. (Python 3.10 has no reader of TOML; the file is our own.)"""
    text = pyproject.read_text(encoding="utf-8")
    block = re.search(r"^dev = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    if block is None:
        raise SetupError(f"{pyproject} has no list `dev` of development requirements")
    return re.findall(r'"([^"]+)"', block.group(1))
