"""The ComfyUIs that the tests run against, each started once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.comfyui.server import ComfyServer, Install

VARIABLE = "STATELESS_TEST_COMFYUIS"


def installs() -> list[Install]:
    found = json.loads(os.environ.get(VARIABLE, "[]"))
    return [Install(i["version"], Path(i["home"]), Path(i["python"])) for i in found]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for ``each_install`` on every ComfyUI, everything else on the first."""
    if "each_install" in metafunc.fixturenames:
        found: list[Install | None] = [*installs()] or [None]
        ids = ["none" if install is None else install.version for install in found]
        metafunc.parametrize("each_install", found, ids=ids, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("comfyui")


def required(install: Install | None) -> Install:
    if install is None:
        pytest.fail(f"{VARIABLE} names no ComfyUI; run the suite with `make test`")
    return install


@pytest.fixture(scope="session")
def install() -> Install:
    """The ComfyUI for tests that start servers of their own."""
    return required(next(iter(installs()), None))


@pytest.fixture(scope="session")
def comfy(
    each_install: Install | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    """A running server of each ComfyUI in turn, shared by the tests that leave it as it was."""
    install = required(each_install)
    base = tmp_path_factory.mktemp(f"comfyui-{install.version}")
    with ComfyServer(install, base) as server:
        server.wait_until_ready()
        yield server
