"""What is said, and done, where Node.js, npm or the network is missing. npm itself is a script here:
the registry is not for tests."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from comfyui_stateless.errors import WorkflowFailed
from comfyui_stateless.workflows import node_packages
from comfyui_stateless.workflows.base import WorkflowFileError
from comfyui_stateless.workflows.javascript import JavaScript
from comfyui_stateless.workflows.node_packages import PackagesMissing, home_in, install
from tests.workflows.scripts import SURROUNDINGS, packages, script

NODE = shutil.which("node")
LOCK = node_packages.HERE / "package-lock.json"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
async def javascript(tmp_path: Path) -> AsyncIterator[JavaScript]:
    made = JavaScript(tmp_path / "cache")
    yield made
    await made.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.js"
    path.write_text(script())
    return path


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)


def npm(folder: Path, tmp_path: Path) -> None:
    """Let npm note how it was run, and put the packages of the tests where it ran."""
    program(
        folder,
        "npm",
        f"""
import os, pathlib, sys, time
with open({str(tmp_path / "asked")!r}, "a") as asked:
    asked.write(" ".join(sys.argv[1:]) + "\\n")
assert pathlib.Path("package-lock.json").is_file()
os.symlink({str(packages() / "node_modules")!r}, "node_modules")
""",
    )


def test_versions_are_pinned_and_no_registry_is() -> None:
    wanted = json.loads((node_packages.HERE / "package.json").read_text())["dependencies"]
    text = LOCK.read_text()
    found = json.loads(text)["packages"]
    assert wanted == {name: found[f"node_modules/{name}"]["version"] for name in wanted}
    assert all("integrity" in entry for name, entry in found.items() if name)
    assert "resolved" not in text


async def test_without_node_a_file_says_what_is_missing(
    path: Path, file: Path, tmp_path: Path
) -> None:
    made = JavaScript(tmp_path, packages())
    with pytest.raises(WorkflowFileError, match=r"needs Node\.js 18 or newer, and `node` is not"):
        await made.load(file, SURROUNDINGS)
    await made.close()


async def test_an_old_node_is_named(path: Path, file: Path, tmp_path: Path) -> None:
    program(path, "node", "import sys; sys.exit(1)")
    made = JavaScript(tmp_path, packages())
    with pytest.raises(WorkflowFileError, match=rf"which {path / 'node'} is not"):
        await made.load(file, SURROUNDINGS)
    await made.close()


async def test_without_npm_a_file_says_what_to_run(
    path: Path, file: Path, javascript: JavaScript
) -> None:
    with pytest.raises(WorkflowFileError, match=r"npm is not on PATH; .*workflow packages FOLDER"):
        await javascript.load(file, SURROUNDINGS)


async def test_a_folder_without_packages_is_named(file: Path, tmp_path: Path) -> None:
    made = JavaScript(tmp_path / "cache", tmp_path / "empty")
    with pytest.raises(WorkflowFileError, match=f"WORKFLOW_NODE_PACKAGES is {tmp_path / 'empty'}"):
        await made.load(file, SURROUNDINGS)
    await made.close()


async def test_npms_own_reason_is_given_and_it_is_not_asked_for_each_file(
    path: Path, file: Path, javascript: JavaScript, tmp_path: Path
) -> None:
    program(
        path,
        "npm",
        f"""
import sys
open({str(tmp_path / "asked")!r}, "a").write("once\\n")
sys.exit("npm error code ENOTFOUND\\nnpm error network request failed\\nnpm error A complete log of this run")
""",
    )
    for _ in range(3):
        with pytest.raises(WorkflowFileError, match="ENOTFOUND npm error network request failed"):
            await javascript.load(file, SURROUNDINGS)
    assert (tmp_path / "asked").read_text() == "once\n"
    assert not any((tmp_path / "cache" / "node").iterdir())


async def test_npm_gets_the_packages_once_for_all_files(
    path: Path, file: Path, javascript: JavaScript, tmp_path: Path
) -> None:
    node = NODE
    if node is None:
        pytest.fail("Node.js is not there")
    (path / "node").symlink_to(node)
    npm(path, tmp_path)
    found = await asyncio.gather(*(javascript.load(file, SURROUNDINGS) for _ in range(3)))
    assert (await found[0].build({"text": "x"})).input == {"text": "x"}
    [asked] = (tmp_path / "asked").read_text().splitlines()
    assert asked.startswith("ci --ignore-scripts")
    assert [home_in(tmp_path / "cache")] == list((tmp_path / "cache" / "node").iterdir())


async def test_two_processes_may_install_at_once(path: Path, tmp_path: Path) -> None:
    npm(path, tmp_path)
    folder = tmp_path / "packages"
    await asyncio.gather(install(folder), install(folder))
    assert node_packages.are_in(folder)
    left = await asyncio.to_thread(lambda: {path.name for path in tmp_path.iterdir()})
    assert left == {"asked", "bin", "packages"}


async def test_what_is_in_the_way_is_named(path: Path, tmp_path: Path) -> None:
    npm(path, tmp_path)
    folder = tmp_path / "packages"
    (folder / "something").mkdir(parents=True)
    with pytest.raises(PackagesMissing, match=f"{folder} is in the way"):
        await install(folder)


async def test_an_endpoint_says_so_when_node_has_gone(file: Path, tmp_path: Path) -> None:
    made = JavaScript(tmp_path, packages())
    endpoint = await made.load(file, SURROUNDINGS)
    await made.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        with pytest.raises(WorkflowFailed, match=r"file\.js: it needs Node\.js"):
            await endpoint.build({"text": ""})
    assert (await endpoint.build({"text": "x"})).input == {"text": "x"}
    await made.close()
