"""Places to install into."""

from __future__ import annotations

import os
import shutil
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyui_stateless.manifest import release
from tests.cache.origin import Origin, serving
from tests.git_server import GIT, GitServer, git_server
from tests.manifest.installing import Programs, Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A place whose Python is the tests' own, which nothing may be installed into."""
    site = Site(tmp_path)
    site.custom_nodes.mkdir(parents=True)
    yield site
    release()


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A throw-away environment with pip, shared by the tests: each has packages of its own."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder that pip finds packages in."""
    (folder := tmp_path / "wheels").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """A PATH of the system's programs, without uv and comfy, and a folder for others."""
    (folder := tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{Path(GIT).parent}:/usr/bin:/bin")
    assert shutil.which("uv") is None
    assert shutil.which("comfy") is None
    return Programs(folder)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    (root := tmp_path / "served").mkdir()
    with git_server(root) as server:
        yield server


@pytest.fixture
def origin() -> Iterator[Origin]:
    with serving() as running:
        yield running
