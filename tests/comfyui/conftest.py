"""The ComfyUIs that the tests run against, each started once."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.cache.origin import Origin, serving
from tests.comfyui.receiver import SECRET, Receiver, receiving
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
def origin() -> Iterator[Origin]:
    """The server of files that ``comfy`` may fetch from."""
    with serving() as origin:
        yield origin


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    """What takes the webhooks and uploads of ``comfy``."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def comfy(
    each_install: Install | None,
    origin: Origin,
    receiver: Receiver,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ComfyServer]:
    """A running server of each ComfyUI in turn, shared by the tests that leave it as it was."""
    install = required(each_install)
    base = tmp_path_factory.mktemp(f"comfyui-{install.version}")
    env = {
        "HTTP_TRUSTED_ORIGINS": f"{origin.url('')},{receiver.origin}",
        "WEBHOOK_SECRET": SECRET,
    }
    with ComfyServer(install, base, env) as server:
        server.wait_until_ready()
        yield server


@pytest.fixture(scope="session")
def folder_paths(install: Install) -> ModuleType:
    """ComfyUI's own module, in this process."""
    sys.path.append(str(install.home))
    try:
        return importlib.import_module("folder_paths")
    finally:
        sys.path.remove(str(install.home))


@pytest.fixture
def base(folder_paths: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with ComfyUI's folders in it."""
    for kind in ("input", "output", "temp"):
        (tmp_path / kind).mkdir()
        monkeypatch.setattr(folder_paths, f"{kind}_directory", str(tmp_path / kind))
    models = tmp_path / "models"
    monkeypatch.setattr(folder_paths, "models_dir", str(models))
    roots = {
        "loras": ([str(models / "loras")], {".safetensors"}),
        "diffusion_models": ([str(models / "unet"), str(models / "diffusion_models")], {".sft"}),
        "upscale": ([str(models / "other"), str(models / "more")], set()),
        "diffusers": ([str(models / "diffusers")], {"folder"}),
        "custom_nodes": ([str(tmp_path / "custom_nodes")], set()),
    }
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", roots)
    yield tmp_path
    folder_paths.filename_list_cache.clear()


@pytest.fixture
def host(folder_paths: ModuleType) -> Any:
    """The host's modules, by name."""

    class Host:
        claims = importlib.import_module("comfyui_stateless.host.claims")
        files = importlib.import_module("comfyui_stateless.host.files")
        inputs = importlib.import_module("comfyui_stateless.host.inputs")
        leftovers = importlib.import_module("comfyui_stateless.host.leftovers")
        models = importlib.import_module("comfyui_stateless.host.models")

    return Host
