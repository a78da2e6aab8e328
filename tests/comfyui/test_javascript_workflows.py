"""Workflow files in TypeScript on a real ComfyUI."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.comfyui.server import ComfyServer, Install
from tests.workflows.scripts import packages

FILE = """\
import { z } from "zod";
import { ComfyPrompt, Workflow } from "../types";
import config from "../config";

const RequestSchema = z.object({
  width: z.number().int().min(16).max(256).describe("Width in pixels"),
  color: z.number().int().optional().default(() => Math.floor(Math.random() * 0xffffff)),
  sampler: config.samplers.optional().default("euler"),
  checkpoint: z
    .string()
    .optional()
    .default(config.warmupCkpt || config.models.checkpoints.all[0]),
});

function generateWorkflow(input: z.infer<typeof RequestSchema>): ComfyPrompt {
  console.log("home", config.comfyDir, "port", config.comfyPort);
  return {
    "1": {
      inputs: { width: input.width, height: 32, batch_size: 1, color: input.color },
      class_type: "EmptyImage",
    },
    "2": { inputs: { filename_prefix: "x", images: ["1", 0] }, class_type: "SaveImage" },
  };
}

const workflow: Workflow = { RequestSchema, generateWorkflow, summary: "A plain image" };
export default workflow;
"""


@pytest.fixture(scope="module")
def server(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    base = tmp_path_factory.mktemp("javascript")
    folder = base / "workflows" / "sd1.5"
    folder.mkdir(parents=True)
    (folder / "plain.ts").write_text(FILE)
    (folder / "plain.js").write_text("what the original made of it")
    (folder / "broken.ts").write_text("const a = 1;\nconst = 2;\n")
    env = {"WORKFLOW_DIR": str(base / "workflows"), "WORKFLOW_NODE_PACKAGES": str(packages())}
    with ComfyServer(install, base, env) as server:
        server.wait_until_ready()
        yield server


def post(server: ComfyServer, **given: Any) -> Any:
    return server.post("/api/stateless/workflow/sd1.5/plain", {"input": given})


def test_a_typescript_file_runs(server: ComfyServer) -> None:
    reply = post(server, width=64)
    assert reply.status == 200
    with Image.open(io.BytesIO(reply.images[0])) as image:
        assert image.size == (64, 32)
        red, green, blue = image.getpixel((0, 0))
    assert reply.json["input"]["color"] == (red << 16) + (green << 8) + blue
    assert reply.json["input"]["sampler"] == "euler"
    assert f"plain.ts: home {server.base} port {server.port}" in server.log


def test_a_wrong_value_is_refused_with_zods_message(server: ComfyServer) -> None:
    reply = post(server, width=8)
    assert reply.status == 400
    assert reply.json["location"] == "input.width"
    assert "greater than or equal to 16" in reply.json["error"]


def test_the_document_has_its_schema_and_the_list_what_is_broken(server: ComfyServer) -> None:
    document = server.get("/api/stateless/openapi.json").json
    operation = document["paths"]["/workflow/sd1.5/plain"]["post"]
    assert operation["summary"] == "A plain image"
    listed = server.get("/api/stateless/workflow").json
    [error] = listed["errors"]
    assert "sd1.5/broken.ts" in str(error)
    assert "Variable declaration expected" in str(error)


def test_node_ends_with_comfyui(server: ComfyServer, tmp_path: Path) -> None:
    post(server, width=64)
    assert _nodes(server)
    server.stop()
    for _ in range(500):
        if not _nodes(server):
            return
        time.sleep(0.02)
    pytest.fail("Node.js goes on")


def _nodes(server: ComfyServer) -> list[int]:
    """Return the Node.js processes whose environment is that of this server."""
    mine = str(server.base).encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if b"workflows/node/main.js" in command and mine in environment:
            found.append(int(folder.name))
    return found
