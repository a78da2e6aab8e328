"""Another server beside ours in the benchmarks: a small one stands in, which says what it was told."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from base64 import b64encode
from pathlib import Path

import pytest

from benchmarks.beside import beside
from benchmarks.graphs import coloured, loaded
from benchmarks.sides import Beside
from tests.comfyui.server import ComfyServer, Install

SERVER = """
import base64, json, os
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(b"{}")
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        told = json.dumps(dict(os.environ)).encode()
        self.answer(json.dumps({"images": [base64.b64encode(told).decode()]}).encode())
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def comfyui(folder: Path) -> ComfyServer:
    return ComfyServer(Install("0", folder, folder), folder, port=8188)


def command(program: str) -> str:
    return shlex.join([sys.executable, "-c", program])


async def asked(side: Beside) -> bytes:
    async with side.connect("") as fetch:
        return side.image(await fetch(side.body(coloured(1))))


def test_the_command_is_told_of_the_comfyui_and_answers_for_it(tmp_path: Path) -> None:
    with beside(command(SERVER), comfyui(tmp_path)) as side:
        told = json.loads(asyncio.run(asked(side)))

    assert told["COMFYUI_PORT_HOST"] == "8188"
    assert told["OUTPUT_DIR"] == str(tmp_path / "output")


def test_a_command_that_ends_is_an_error_with_what_it_said(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="no such option"),
        beside(command("raise SystemExit('no such option')"), comfyui(tmp_path)),
    ):
        pass


def test_pictures_are_named_by_their_path_and_the_graph_stays(tmp_path: Path) -> None:
    graph = loaded("photo.jpg")

    body = json.loads(Beside("http://127.0.0.1", tmp_path).body(graph))

    assert body["prompt"]["1"]["inputs"]["image"] == str(tmp_path / "photo.jpg")
    assert body["prompt"]["9"] == graph["9"]
    assert graph == loaded("photo.jpg")


def test_an_answer_with_two_images_is_none(tmp_path: Path) -> None:
    image = b64encode(b"picture").decode()

    with pytest.raises(ValueError, match="unpack"):
        Beside("http://127.0.0.1", tmp_path).image(json.dumps({"images": [image, image]}).encode())
