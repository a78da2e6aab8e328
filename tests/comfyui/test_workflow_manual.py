"""docs/workflows.md, done as it says on a real ComfyUI."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.comfyui.server import CHECKOUT, ComfyServer, Install

MANUAL = (CHECKOUT / "docs" / "workflows.md").read_text(encoding="utf-8")


def block(language: str, holding: str) -> str:
    """Return the manual's only block of a language that holds some text."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", MANUAL, re.DOTALL | re.MULTILINE)
    (found,) = [text for text in blocks if holding in text]
    return str(found)


@pytest.fixture(scope="module")
def served(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    base = tmp_path_factory.mktemp("manual")
    folder = base / "workflows"
    folder.mkdir()
    plain = block("json", "EmptyImage")
    (folder / "plain.json").write_text(plain)
    (folder / "plain.yaml").write_text(block("yaml", "summary: A plain image"))
    (folder / "stripes.py").write_text(block("python", "Stripes"))
    marked = json.loads(plain)
    marked["1"]["_meta"] = {"title": "Size @width @height @colour=color"}
    (folder / "marked.json").write_text(json.dumps(marked))
    env = {"WORKFLOW_DIR": str(folder), "ALLOW_PUBLISH": "true"}
    with ComfyServer(install, base, env=env) as server:
        server.wait_until_ready()
        yield server


def test_the_graph_with_inputs_runs_and_refuses_as_the_manual_says(served: ComfyServer) -> None:
    reply = served.post("/api/stateless/workflow/plain", {"input": {"size": 96}})
    assert reply.status == 200, reply.body
    assert reply.json["input"] == {"size": 96, "color": 16711680}
    assert (reply.json["outputs"][0]["width"], reply.json["outputs"][0]["height"]) == (96, 96)
    refused = served.post("/api/stateless/workflow/plain", {"input": {"size": 4096}})
    assert refused.status == 400
    assert refused.json == json.loads(block("json", "4096"))


def test_marks_make_inputs(served: ComfyServer) -> None:
    given = {"width": 32, "height": 48, "colour": 1}
    reply = served.post("/api/stateless/workflow/marked", {"input": given})
    assert reply.json["input"] == given
    assert (reply.json["outputs"][0]["width"], reply.json["outputs"][0]["height"]) == (32, 48)


def test_code_makes_as_many_images_as_were_asked_for(served: ComfyServer) -> None:
    reply = served.post("/api/stateless/workflow/stripes", {"input": {"count": 3, "seed": 7}})
    assert reply.json["input"] == {"count": 3, "seed": 7}
    assert len(reply.json["images"]) == 3


def test_the_commands_publish_and_remove(served: ComfyServer, tmp_path: Path) -> None:
    script = block("sh", "-X PUT")
    put, remove = script.split("curl -s -X DELETE")
    api = f"{served.url}/api/stateless"

    def run(text: str) -> dict[str, str]:
        done = subprocess.run(
            ["sh", "-c", text], env={"API": api, "PATH": "/usr/bin:/bin"}, capture_output=True,
            check=True, cwd=tmp_path,
        )  # fmt: skip
        said: dict[str, str] = json.loads(done.stdout)
        return said

    assert run(put)["path"] == "plain-2"
    assert served.post("/api/stateless/workflow/plain-2", {"input": {}}).status == 200
    assert run(f"curl -s -X DELETE{remove}")["status"] == "removed"
    assert served.post("/api/stateless/workflow/plain-2", {"input": {}}).status == 404
