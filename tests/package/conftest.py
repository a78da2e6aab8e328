"""What the tests of packages share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.comfyui.conftest import installs, required
from tests.comfyui.server import Install
from tests.package.tools import copy_tree


@pytest.fixture(scope="session")
def install() -> Install:
    """The ComfyUI that gets the packages."""
    return required(next(iter(installs()), None))


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, a repository of its own."""
    return copy_tree(tmp_path_factory.mktemp("tree"))
