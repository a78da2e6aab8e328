"""Packs that change what others use, loaded before ours and after it: both do their work."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.cache.origin import Origin
from tests.comfyui.graphs import failing, node, pixels, saved, text_chunks, waiting
from tests.comfyui.server import ComfyServer, Install, Reply
from tests.comfyui.test_fetching import loading, only_text, png, sha256, weights

PACKS = Path(__file__).parent / "rough"


@dataclass
class Beside:
    """A server with rough packs in it, and the log that one of them writes."""

    server: ComfyServer
    log: Path


@pytest.fixture(scope="module", params=["before", "after"])
def beside(
    request: pytest.FixtureRequest,
    install: Install,
    origin: Origin,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Beside]:
    base = tmp_path_factory.mktemp(f"rough-{request.param}")
    env = {
        "TEST_LOAD_ORDER": request.param,
        "TEST_PACK_LOG": str(base / "pack.log"),
        "HTTP_TRUSTED_ORIGINS": origin.url("").rstrip("/"),
    }
    packs = {path.name: path for path in PACKS.iterdir() if path.is_dir()}
    with ComfyServer(install, base / "comfyui", env, packs=packs) as server:
        server.wait_until_ready()
        yield Beside(server, base / "pack.log")


@pytest.fixture
def server(beside: Beside) -> Iterator[ComfyServer]:
    """The server; tests leave no file behind in it."""
    before = beside.server.files()
    yield beside.server
    left = beside.server.files()
    assert {**left, "models": before["models"]} == before


def heard(server: ComfyServer) -> dict[str, int]:
    return dict(server.get("/test-heard").json)


def test_ours_is_loaded_where_it_has_to_be(
    request: pytest.FixtureRequest, server: ComfyServer
) -> None:
    order = request.node.callspec.params["beside"]
    assert heard(server)["ours_is_there"] == (order == "after")


def test_pictures_are_what_they_are_without_them(server: ComfyServer) -> None:
    reply = server.prompt(saved(1), id="p")
    assert reply.status == 200, reply.body
    history = server.plain(saved(1, prefix="theirs"))
    (entry,) = history["outputs"]["9"]["images"]
    file = server.base / "output" / entry["filename"]
    assert np.array_equal(pixels(reply.images[0]), pixels(file.read_bytes()))
    assert json.loads(text_chunks(reply.images[0])["prompt"]) == reply.json["prompt"]
    file.unlink()


def test_all_that_is_wrapped_is_called(server: ComfyServer) -> None:
    before = heard(server)
    assert server.prompt(saved(2), id="ours").status == 200
    ours = heard(server)
    for name in ("task_done", "put", "execute", "validate_prompt"):
        assert ours[name] == before[name] + 1, name
    history = server.plain(saved(3))
    (entry,) = history["outputs"]["9"]["images"]
    (server.base / "output" / entry["filename"]).unlink()
    theirs = heard(server)
    for name in ("task_done", "put", "execute", "validate_prompt"):
        assert theirs[name] == before[name] + 2, name
    assert theirs["send_sync"] > ours["send_sync"] + 3


def test_a_picture_goes_through_the_loader_that_is_in_place(server: ComfyServer) -> None:
    before = heard(server).get("load_image", 0)
    content = png(secrets.randbits(30))
    reply = server.prompt(loading(base64.b64encode(content).decode()))
    assert reply.status == 200, reply.body
    assert np.array_equal(pixels(reply.images[0]), pixels(content))
    assert heard(server)["load_image"] == before + 1


@pytest.mark.parametrize("class_type", ["RoughReadsVae", "RoughReadsLora", "TestReadsCheckpoint"])
def test_models_are_found_however_they_are_listed(
    server: ComfyServer, origin: Origin, class_type: str
) -> None:
    content = weights(secrets.randbits(30))
    url = origin.put(f"/{secrets.token_hex(8)}.safetensors", content)
    name = {"RoughReadsVae": "vae", "RoughReadsLora": "lora"}.get(class_type, "name")
    reply = server.prompt({"1": node(class_type, **{name: url})})
    assert only_text(reply) == sha256(content)
    shown = server.get("/object_info").json
    shown.pop("TestKeepsWhatItSaw")  # it does, and so URLs are not taken for its inputs
    assert "zzstateless" not in json.dumps([shown, server.get("/models/loras").json])


def audited(reply: Reply, body: bytes) -> bool:
    return reply.headers["X-Audit"] == hashlib.sha256(body).hexdigest()


def test_a_body_that_was_read_before_us_is_read(server: ComfyServer) -> None:
    body = json.dumps({"prompt": saved(4), "id": "read"}).encode()
    reply = server.post("/api/stateless/prompt", body)
    assert (reply.status, reply.json["filenames"]) == (200, ["read_picture_00001_.png"])
    checked = server.post("/api/stateless/validate", body)
    assert checked.status == 200
    assert audited(checked, body)
    missing = server.post("/api/stateless/interrupt", b'{"id": "nobody"}')
    assert (missing.status, missing.json) == (404, {"id": "nobody", "interrupted": "failed"})


def test_a_form_that_was_read_before_us_is_read(server: ComfyServer) -> None:
    content = png(secrets.randbits(30))
    reply = server.post_form({"prompt": loading("upload://picture")}, picture=content)
    assert reply.status == 200, reply.body
    assert np.array_equal(pixels(reply.images[0]), pixels(content))


def test_errors_keep_their_form(server: ComfyServer) -> None:
    wrong = server.post("/api/stateless/prompt", b"{")
    assert (wrong.status, wrong.json["code"]) == (400, "invalid_request")
    assert audited(wrong, b"{")
    nowhere = server.get("/api/stateless/nowhere")
    assert (nowhere.status, nowhere.json["code"]) == (404, "not_found")
    assert server.post("/system_stats", {}).json == {"rewritten": 405}


def test_events_are_lines_of_json(server: ComfyServer) -> None:
    reply = server.prompt(saved(5), accept="text/event-stream", id="straße")
    lines = reply.body.decode().splitlines()
    told = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert all(line == "" or line.partition(":")[0] in ("event", "data", "id") for line in lines)
    assert told[-1]["id"] == "straße"


def test_a_result_is_kept_and_given_again(server: ComfyServer) -> None:
    body = json.dumps({"prompt": saved(6), "id": "straße"}).encode()
    replies = [
        server.post("/api/stateless/prompt", body, Idempotency_Key="again") for _ in range(2)
    ]
    assert [reply.status for reply in replies] == [200, 200]
    assert replies[0].json == replies[1].json


def test_secrets_are_in_no_log_that_a_pack_has_opened(beside: Beside) -> None:
    key = secrets.token_hex(16)
    graph = {**waiting(0.0, key[:5]), "3": node("TestTellsSecrets", after=["2", 0])}
    reply = beside.server.prompt(graph, extra_data={"api_key_comfy_org": key})
    assert "401 for key ***" in reply.json["error"]
    logged = beside.log.read_text(), beside.server.log
    assert ["401 for key ***" in text for text in logged] == [True, True]
    assert not any(key in text for text in logged)


def test_a_job_that_is_cut_off_from_outside_is_over(server: ComfyServer) -> None:
    graph = waiting(60, "cut off")
    reply = server.post("/api/stateless/prompt", {"prompt": graph, "id": "cut"}, X_Limit="1.5")
    assert (reply.status, reply.json) == (504, {"rewritten": 504})
    assert server.prompt(saved(8), timeout=20).status == 200
    assert server.get("/queue").json == {"queue_running": [], "queue_pending": []}


def test_a_death_of_the_worker_that_nobody_reports_is_seen(server: ComfyServer) -> None:
    reply = server.prompt(failing("SystemExit"), timeout=30)
    assert (reply.status, reply.json["code"]) == (500, "worker_died")
    assert server.prompt(saved(7), timeout=30).status == 200


def test_a_pack_that_fails_fails_alone(beside: Beside) -> None:
    failed = [line for line in beside.server.log.splitlines() if "IMPORT FAILED" in line]
    assert [line.rpartition("/")[2] for line in failed] == ["raises_at_import"]
    assert beside.server.get("/test-raises").json == "here"
