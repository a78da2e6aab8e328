"""A ComfyUI with one pack and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from tests.comfyui.graphs import Graph, node
from tests.comfyui.server import ComfyServer

GRAPH: Graph = {
    "1": node("EmptyImage", width=16, height=16, batch_size=1, color=255),
    "2": node("SaveImage", images=["1", 0], filename_prefix="fresh"),
}


@dataclass
class FreshServer(ComfyServer):
    """A ComfyUI whose ``custom_nodes`` is left as the test has made it."""

    def _lay_out(self) -> None:
        for name in ("custom_nodes", "input", "output", "temp", "user", "models"):
            (self.base / name).mkdir(parents=True, exist_ok=True)


def require_answers(server: ComfyServer) -> None:
    """See that the extension is there and makes a picture."""
    server.wait_until_ready()
    reply = server.prompt(GRAPH)
    assert reply.status == 200, reply.body
    assert reply.images[0].startswith(b"\x89PNG")
    assert server.files()["output"] == []
    assert "IMPORT FAILED" not in server.log
