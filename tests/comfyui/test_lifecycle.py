"""How the extension starts, gets ready, and leaves ComfyUI alone when it cannot."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.comfyui.graphs import failing, node, saved, text_chunks, waiting
from tests.comfyui.server import ComfyServer, Install

KEY = "a-key-of-the-tests"


@pytest.fixture(scope="module")
def configured(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A server with keys, a warm-up, a short queue and names replaced by ids."""
    base = tmp_path_factory.mktemp("configured")
    warmup = base / "warmup.json"
    warmup.write_text(json.dumps(waiting(1.5, "warm-up")))
    env = {
        "API_KEYS": f"other, {KEY}",
        "WARMUP_PROMPT_FILE": str(warmup),
        "MAX_QUEUE_DEPTH": "2",
        "REJECT_WHEN_FULL": "true",
        "PREPEND_FILENAMES": "false",
        "PORT": "3000",
    }
    with ComfyServer(install, base, env) as server:
        yield server


def prompt(server: ComfyServer, graph: object, **fields: object) -> tuple[int, dict[str, object]]:
    reply = server.post("/api/stateless/prompt", {"prompt": graph, **fields}, X_API_Key=KEY)
    return reply.status, reply.json


def test_probes_tell_of_the_warm_up_and_no_work_is_taken_before_its_end(
    configured: ComfyServer,
) -> None:
    deadline = time.monotonic() + 10
    while (ready := configured.get("/api/stateless/ready")).json["reason"].endswith("starting."):
        assert time.monotonic() < deadline
    health = configured.get("/api/stateless/health")
    status, body = prompt(configured, saved(1))
    assert (health.status, health.json["status"]) == (500, "not healthy")
    assert (ready.status, ready.json["status"]) == (503, "not ready")
    assert "warm-up" in ready.json["reason"]
    assert (status, body["code"]) == (503, "unavailable")
    configured.wait_until_ready()
    assert configured.get("/api/stateless/health").json["status"] == "healthy"
    assert configured.files()["output"] == []


def test_every_route_but_the_probes_needs_a_key(configured: ComfyServer) -> None:
    configured.wait_until_ready()
    for path in ("/models", "/docs", "/openapi.json", "/nowhere"):
        reply = configured.get(f"/api/stateless{path}")
        assert (reply.status, reply.json["code"]) == (401, "unauthorized"), path
    assert configured.get("/api/stateless/models", Authorization=f"Bearer {KEY}").status == 200
    assert configured.get("/api/stateless/models", X_API_Key=KEY).status == 200
    assert configured.get("/api/stateless/models", X_API_Key=KEY + "x").status == 401
    assert configured.prompt(saved(1)).status == 401


def test_the_id_replaces_the_prefix_where_filenames_are_not_prepended(
    configured: ComfyServer,
) -> None:
    configured.wait_until_ready()
    _, body = prompt(configured, saved(1, prefix="a/b"), id="only")
    assert body["filenames"] == ["only_00001_.png"]


def test_a_full_queue_refuses_work_and_the_probe_says_so(configured: ComfyServer) -> None:
    configured.wait_until_ready()
    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(prompt, configured, waiting(1, f"full {n}")) for n in range(6)]
        time.sleep(0.5)
        ready = configured.get("/api/stateless/ready")
    assert ready.status == 503
    assert "MAX_QUEUE_DEPTH" in ready.json["reason"]
    statuses = sorted(job.result()[0] for job in jobs)
    assert statuses == [200, 200, 429, 429, 429, 429]
    assert configured.get("/api/stateless/ready").status == 200


def test_variables_of_the_launcher_are_named_in_one_line(configured: ComfyServer) -> None:
    assert configured.log.count("only the launcher reads PORT") == 1
    assert KEY not in configured.log


def test_a_failed_warm_up_keeps_the_server_unhealthy_with_the_reason(
    install: Install, tmp_path: Path
) -> None:
    warmup = tmp_path / "warmup.json"
    warmup.write_text(json.dumps(failing("ValueError", "no such model")))
    with ComfyServer(install, tmp_path / "base", {"WARMUP_PROMPT_FILE": str(warmup)}) as server:
        deadline = time.monotonic() + 20
        while "no such model" not in server.get("/api/stateless/health").body.decode():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert server.get("/api/stateless/health").status == 500
        assert server.get("/api/stateless/ready").status == 503
        assert server.prompt(saved(1)).status == 503
        assert server.plain(saved(1))["status"]["status_str"] == "success"


def test_wrong_variables_are_all_named_and_comfyui_runs(install: Install, tmp_path: Path) -> None:
    env = {"MAX_QUEUE_DEPTH": "many", "LOG_LEVEL": "loud", "WARMUP_PROMPT_FILE": "/no/such/file"}
    with ComfyServer(install, tmp_path, env) as server:
        reply = server.prompt(saved(1))
        assert (reply.status, reply.json["code"]) == (503, "invalid_configuration")
        for name in env:
            assert name in reply.json["error"]
        assert server.get("/api/stateless/health").status == 500
        assert server.get("/api/stateless/ready").status == 503
        assert server.plain(saved(1))["status"]["status_str"] == "success"


def test_a_missing_dependency_costs_one_line_and_comfyui_runs(
    install: Install, tmp_path: Path
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "pydantic_settings.py").write_text(
        "raise ImportError('No module named x')"
    )
    env = {"PYTHONPATH": str(tmp_path / "broken")}
    with ComfyServer(install, tmp_path / "base", env) as server:
        assert server.log.count("The stateless API is off") == 1
        assert "IMPORT FAILED" not in server.log
        assert server.plain(saved(1))["status"]["status_str"] == "success"


def test_an_output_folder_that_cannot_be_used_is_a_reason_in_a_line_not_a_crash(
    install: Install, tmp_path: Path
) -> None:
    file = tmp_path / "no-folder"
    file.write_text("")
    args = ("--output-directory", str(file))
    with ComfyServer(install, tmp_path / "base", args=args) as server:
        deadline = time.monotonic() + 10
        while "cannot be used: Not a" not in server.get("/api/stateless/ready").body.decode():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert server.get("/api/stateless/health").status == 500
        assert server.get("/system_stats").status == 200
        (line,) = [line for line in server.log.splitlines() if "cannot get ready" in line]
        assert str(file) in line
        assert "Traceback" not in server.log


def test_options_of_comfyui_hold_for_our_answers(install: Install, tmp_path: Path) -> None:
    origin = "https://editor.example"
    cors = ("--enable-cors-header", origin)
    args = ("--disable-metadata", "--enable-compress-response-body", *cors)
    with ComfyServer(install, tmp_path, args=args) as server:
        server.wait_until_ready()
        large = saved(1, width=512, height=512)
        for graph in (saved(1), large):
            reply = server.prompt(graph, extra_data={"extra_pnginfo": {"workflow": {"a": 1}}})
            assert reply.status == 200
            assert reply.headers["Access-Control-Allow-Origin"] == origin
            assert text_chunks(reply.images[0]) == {}
        assert server.get("/api/stateless/nowhere").headers["Access-Control-Allow-Origin"] == origin


def test_the_examples_of_the_openapi_document_run(configured: ComfyServer) -> None:
    configured.wait_until_ready()
    document = configured.get("/api/stateless/openapi.json", X_API_Key=KEY).json
    examples = document["components"]["schemas"]["PromptRequest"]["examples"]
    assert examples
    for example in examples:
        reply = configured.post("/api/stateless/prompt", example, X_API_Key=KEY)
        assert reply.status == 200, reply.body


def test_what_a_killed_process_left_is_swept_at_the_next_start(
    install: Install, tmp_path: Path
) -> None:
    server = ComfyServer(install, tmp_path)
    with server:
        server.wait_until_ready()
        graph = waiting(30, "killed")
        graph["5"] = node("TestSavesSilently", text="x", filename_prefix="left/behind")
        with ThreadPoolExecutor(1) as pool:
            job = pool.submit(server.prompt, graph)
            deadline = time.monotonic() + 10
            while not server.files()["output"] and time.monotonic() < deadline:
                time.sleep(0.05)
            assert server.files()["output"]
            assert server.process is not None
            os.killpg(server.process.pid, signal.SIGKILL)
            assert job.exception() is not None
    (tmp_path / "output" / "stateless-of-the-user").mkdir()
    with server:
        server.wait_until_ready()
        assert server.files()["output"] == ["stateless-of-the-user"]
