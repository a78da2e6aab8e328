"""The pack for ComfyUI's registry: what comfy-cli says of it, what is in it, and that it runs."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from comfyui_stateless import __version__
from tests.comfyui.server import Install
from tests.package.fresh import FreshServer, require_answers
from tests.package.tools import CHECKOUT, run, tool, tracked

ROOT_FILES = {
    "CHANGELOG.md", "LICENSE", "README.md", "__init__.py", "pyproject.toml", "requirements.txt",
}  # fmt: skip


@pytest.fixture(scope="module")
def pack(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pack that comfy-cli makes of the tree."""
    home = tmp_path_factory.mktemp("home")
    run([tool("comfy"), "--skip-prompt", "node", "pack"], tree, home)
    return tree / "node.zip"


def list_of(text: str, name: str) -> list[str]:
    """Return a list of strings in a TOML file. (Python 3.10 has no reader of TOML.)"""
    block = re.search(rf"^{name} = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert block is not None
    return re.findall(r'^ *"([^"]+)"', block[1], re.MULTILINE)


def test_the_registry_s_validation_passes_without_a_warning(tree: Path, tmp_path: Path) -> None:
    said = run([tool("comfy"), "--skip-prompt", "node", "validate"], tree, tmp_path)
    assert "All validation checks passed" in said
    assert "arning" not in said


def test_the_pack_holds_what_runs_and_nothing_else(pack: Path, tree: Path) -> None:
    with zipfile.ZipFile(pack) as archive:
        packed = set(archive.namelist())
    assert packed == ROOT_FILES | tracked(tree, "comfyui_stateless", "js")


@pytest.mark.comfyui
def test_a_fresh_comfyui_with_nothing_but_the_pack_runs_a_prompt(
    pack: Path, install: Install, tmp_path: Path
) -> None:
    place = tmp_path / "custom_nodes" / "the api, 1.0"
    with zipfile.ZipFile(pack) as archive:
        archive.extractall(place)
    with FreshServer(install, tmp_path) as server:
        require_answers(server)
        assert str(place) in server.log


def test_the_registry_and_comfyui_s_installers_read_the_same_requirements() -> None:
    project = (CHECKOUT / "pyproject.toml").read_text()
    listed = (CHECKOUT / "requirements.txt").read_text().splitlines()
    assert list_of(project, "dependencies") == listed


def test_the_version_is_written_down_once_for_all() -> None:
    project = (CHECKOUT / "pyproject.toml").read_text()
    assert f'\nversion = "{__version__}"\n' in project
