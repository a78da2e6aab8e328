"""The endpoints in examples/workflows, held against ComfyUI's own node definitions."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.comfyui.conftest import required
from tests.comfyui.server import CHECKOUT, ComfyServer, Install, Reply

EXAMPLES = CHECKOUT / "examples" / "workflows"

PATHS = sorted(
    str(file.relative_to(EXAMPLES).with_suffix(""))
    for file in EXAMPLES.rglob("*")
    if file.suffix in (".json", ".py") and "__pycache__" not in file.parts
)

TOO_NEW = {"qwen-image/edit": (0, 3, 60)}
"""The first ComfyUI that has the nodes of an example."""

TINY_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture(scope="module")
def served(
    each_install: Install | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    install = required(each_install)
    base = tmp_path_factory.mktemp("examples")
    folder = base / "workflows"
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with ComfyServer(install, base, env={"WORKFLOW_DIR": str(folder)}) as server:
        yield server


def told(server: ComfyServer) -> dict[str, Any]:
    said: dict[str, Any] = server.get("/api/stateless/workflow").json
    return said


def is_too_new(server: ComfyServer, path: str) -> bool:
    return server.install.numbers < TOO_NEW.get(path, (0,))


def test_all_load_and_nothing_is_wrong_with_any(served: ComfyServer) -> None:
    said = told(served)
    old = {path for path in TOO_NEW if is_too_new(served, path)}
    assert [e for e in said["errors"] if not old & {str(Path(e["file"]).with_suffix(""))}] == []
    assert {each["path"] for each in said["workflows"] if each.get("schema")} >= {*PATHS} - old


@pytest.mark.parametrize("path", PATHS)
def test_the_inputs_have_the_limits_and_words_of_the_nodes(served: ComfyServer, path: str) -> None:
    if is_too_new(served, path):
        pytest.skip("this ComfyUI is older than the nodes")
    said = served.get(f"/api/stateless/workflow/{path}").json
    properties = said["schema"]["properties"]
    assert said["summary"]
    assert said["description"]
    assert all(each.get("description") or path.endswith("loras") for each in properties.values())
    for each in properties.values():
        if each.get("type") in ("integer", "number"):
            assert "minimum" in each
            assert "maximum" in each


def test_no_graph_lacks_anything_but_models(served: ComfyServer) -> None:
    """Send the examples, which name models that cannot be had here: only they are wrong."""
    paths = [path for path in PATHS if not is_too_new(served, path)]
    with ThreadPoolExecutor(len(paths)) as pool:  # each waits for a host that cannot be reached
        replies = dict(zip(paths, pool.map(partial(example_sent, served), paths), strict=True))
    for path, reply in replies.items():
        assert (reply.status, reply.json["code"]) == (400, "invalid_input"), (path, reply.body)
        assert "huggingface.co" in reply.json["error"], path


def example_sent(server: ComfyServer, path: str) -> Reply:
    said = server.get(f"/api/stateless/workflow/{path}").json
    given = {
        name: TINY_PNG if name in ("image", "mask") else value
        for name, value in said["example"].items()
    }
    return server.post(f"/api/stateless/workflow/{path}", {"input": given})
