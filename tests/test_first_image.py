import base64
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from examples import first_image

ROOT = Path(__file__).parents[1]


@dataclass
class FakeServer:
    """Answers every post with one status and body, and keeps what was posted."""

    status: int = 200
    answer: dict[str, Any] = field(default_factory=dict)
    posted: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            fake.posted.append(json.loads(body))
            fake.keys.append(self.headers["X-API-Key"])
            self.send_response(fake.status)
            self.end_headers()
            self.wfile.write(json.dumps(fake.answer).encode())

        def log_message(self, *_arguments: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.address = f"http://127.0.0.1:{http.server_port}"
    yield fake
    http.shutdown()
    http.server_close()
    thread.join()


def an_answer(*names: str) -> dict[str, Any]:
    outputs = [{"filename": name, "media_type": "image/png"} for name in names]
    images = [base64.b64encode(name.encode()).decode() for name in names]
    return {"images": images, "filenames": list(names), "outputs": outputs}


def test_every_output_is_written_with_its_own_extension(server: FakeServer, tmp_path: Path) -> None:
    server.answer = an_answer("a/x_00001_.png", "x_00001_.webp")
    output = tmp_path / "new" / "picture.png"
    assert first_image.main([server.address, "--output", str(output)]) == 0
    assert output.read_bytes() == b"a/x_00001_.png"
    assert (output.parent / "picture-2.webp").read_bytes() == b"x_00001_.webp"


def test_a_bare_graph_is_posted_as_the_prompt(server: FakeServer, tmp_path: Path) -> None:
    graph = {"1": {"class_type": "EmptyImage", "inputs": {}}}
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(graph))
    server.answer = an_answer()
    assert first_image.main([server.address, str(file), "--api-key", "secret"]) == 0
    assert server.posted == [{"prompt": graph}]
    assert server.keys == ["secret"]


def test_the_curl_commands_do_not_show_the_key(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer = an_answer("x.png")
    output = str(tmp_path / "x.png")
    first_image.main([server.address, "--output", output, "--api-key", "secret"])
    printed = capsys.readouterr().out
    assert "curl -fsS" in printed
    assert "secret" not in printed


def test_an_error_of_the_server_is_printed_and_is_the_exit_status(
    server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.status, server.answer = 400, {"error": "there is no such node"}
    assert first_image.main([server.address]) == 1
    assert "there is no such node" in capsys.readouterr().err


def test_a_port_in_use_is_refused_before_anything_is_set_up(
    server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    port = server.address.rpartition(":")[2]
    assert first_image.main(["--start", "--port", port]) == 1
    assert f"port {port} is in use" in capsys.readouterr().err


def test_the_example_graph_needs_no_model_and_has_one_output() -> None:
    request = json.loads((first_image.EXAMPLES / "first_image.json").read_text())
    classes = [node["class_type"] for node in request["prompt"].values()]
    assert classes.count("SaveImage") == 1
    assert not [name for name in classes if "Loader" in name]


def test_told_to_end_twice_at_once_it_still_ends_its_child(tmp_path: Path) -> None:
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text("import time\nprint('up', flush=True)\ntime.sleep(60)\n")
    program = f"""
import signal, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from examples import first_image
first_image.SETUP = Path({str(sleeper)!r})
signal.signal(signal.SIGTERM, first_image.end)
with first_image.child() as process:
    process.wait()
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        for _ in range(5):
            client.send_signal(signal.SIGTERM)
            time.sleep(0.002)
        assert client.wait(20) == 128 + signal.SIGTERM
        assert client.stdout.read() == b""  # the child has let go of it
