"""Outputs that go to a storage: byte for byte what the answer would have held, as they come."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from tests.comfyui.graphs import Graph, node, pattern, waiting
from tests.comfyui.receiver import Receiver
from tests.comfyui.server import ComfyServer, Install, Reply
from tests.storage.seaweed import ADMIN, BUCKET, seaweed


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    if "comfy" not in request.fixturenames:
        yield
        return
    server: ComfyServer = request.getfixturevalue("comfy")
    before = server.files()
    yield
    until(lambda: server.files() == before)


@pytest.fixture
def job_id() -> str:
    return f"job of {uuid.uuid4().hex}"


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def several() -> Graph:
    """Two images, a file, and a file that is changed after its node is done."""
    return {
        "1": pattern(21, batch=2),
        "2": node("SaveImage", images=["1", 0], filename_prefix="deep/er/picture"),
        "3": node("TestNotes", text="a note", filename_prefix="note"),
        "4": node("TestNotes", text="first", filename_prefix="changed"),
        "5": node("TestAppends", path=["4", 0], text=" and last"),
    }


def place(receiver: Receiver, job_id: str, **more: Any) -> dict[str, Any]:
    """Return the field of a request that uploads."""
    return {"http_upload": {"url_prefix": f"{receiver.origin}/{job_id[7:]}/", **more}}


def uploaded(receiver: Receiver, url: str) -> bytes:
    return receiver.uploads[unquote(url.removeprefix(receiver.origin))]


def contents(receiver: Receiver, urls: list[str]) -> list[bytes]:
    return [uploaded(receiver, url) for url in urls]


def test_what_is_uploaded_is_what_would_have_been_returned(
    comfy: ComfyServer, receiver: Receiver, job_id: str
) -> None:
    plain = comfy.prompt(several(), id=job_id)
    where = place(receiver, job_id, **{"async": False})
    reply = comfy.post("/api/stateless/prompt", {"prompt": several(), "id": job_id, **where})
    assert (plain.status, reply.status) == (200, 200), reply.body
    assert contents(receiver, reply.json["images"]) == plain.images
    assert plain.images[-2:] == [b"a note", b"first and last"]
    assert reply.json["filenames"] == plain.json["filenames"]
    prefix = f"{receiver.origin}/{job_id[7:]}/"
    assert [unquote(u) for u in reply.json["images"]] == [
        prefix + n for n in plain.json["filenames"]
    ]
    assert len([path for path in receiver.uploads if job_id[7:] in path]) == 4


def test_an_accepted_job_is_uploaded_before_its_message_comes(
    comfy: ComfyServer, receiver: Receiver, job_id: str
) -> None:
    where = place(receiver, job_id) | {"webhook_v2": f"{receiver.origin}/hook"}
    reply = comfy.post("/api/stateless/prompt", {"prompt": several(), "id": job_id, **where})
    assert reply.status == 202, reply.body
    message = receiver.wait_for(job_id)
    assert message.body["type"] == "prompt.complete"
    state = comfy.get(f"/api/stateless/prompt/{job_id.replace(' ', '%20')}")
    assert state.json["images"] == message.body["images"]
    plain = comfy.prompt(several(), id=job_id)
    assert contents(receiver, message.body["images"]) == plain.images


def test_an_output_is_uploaded_while_later_nodes_run(
    comfy: ComfyServer, receiver: Receiver, job_id: str
) -> None:
    graph = {
        **waiting(600, job_id),
        "3": pattern(22),
        "4": node("SaveImage", images=["3", 0], filename_prefix="early"),
        "5": node("TestNotes", text="early note", filename_prefix="early"),
    }
    graph["2"]["inputs"]["image"] = ["6", 0]
    graph["6"] = node("TestBlackens", image=["1", 0], after=["3", 0])
    where = place(receiver, job_id, **{"async": False})
    body = {"prompt": graph, "id": job_id, **where}
    with ThreadPoolExecutor() as pool:
        job = pool.submit(comfy.post, "/api/stateless/prompt", body)
        until(lambda: len([path for path in receiver.uploads if job_id[7:] in path]) == 2)
        state = comfy.get(f"/api/stateless/prompt/{job_id.replace(' ', '%20')}").json
        assert (state["state"], state["node_id"]) == ("running", "2")
        assert comfy.post("/api/stateless/interrupt", {"id": job_id}).status == 200
        reply = job.result()
    assert (reply.status, reply.json["code"]) == (409, "interrupted")
    names = {url.rpartition("_early")[2] for url in reply.json["details"]["uploaded"]}
    assert names == {"_00001_.png", "_00001_.txt"}


def test_a_job_that_fails_lists_what_it_has_uploaded(
    comfy: ComfyServer, receiver: Receiver, job_id: str
) -> None:
    graph = {
        **waiting(2, job_id),
        "3": pattern(23),
        "4": node("SaveImage", images=["3", 0], filename_prefix="before"),
        "6": node("TestBlackens", image=["1", 0], after=["3", 0]),
        "7": node("TestRaises", image=["2", 0], kind="ValueError", message="it broke"),
    }
    graph["2"]["inputs"]["image"] = ["6", 0]
    graph["9"]["inputs"]["images"] = ["7", 0]
    where = place(receiver, job_id) | {"webhook_v2": f"{receiver.origin}/hook"}
    reply = comfy.post("/api/stateless/prompt", {"prompt": graph, "id": job_id, **where})
    assert reply.status == 202
    failed = receiver.wait_for(job_id).body
    assert (failed["type"], failed["code"]) == ("prompt.failed", "execution_error")
    (listed,) = failed["details"]["uploaded"]
    assert listed.endswith("_before_00001_.png")
    (content,) = contents(receiver, [listed])
    assert content.startswith(b"\x89PNG")


def test_a_large_file_is_uploaded_whole(
    comfy: ComfyServer, receiver: Receiver, job_id: str
) -> None:
    where = place(receiver, job_id, **{"async": False})
    graph = {"1": node("TestSavesLarge", mib=48, filename_prefix="large")}
    reply = comfy.post("/api/stateless/prompt", {"prompt": graph, "id": job_id, **where})
    assert reply.status == 200, reply.body
    (content,) = contents(receiver, reply.json["images"])
    assert content == b"".join(bytes([block]) * 2**20 for block in range(48))


def test_converted_images_are_uploaded_under_their_new_names(
    comfy: ComfyServer, receiver: Receiver, job_id: str
) -> None:
    convert: dict[str, Any] = {"convert_output": {"format": "webp", "options": {"lossless": True}}}
    plain = comfy.prompt(several(), id=job_id, **convert)
    body = {"prompt": several(), "id": job_id, **convert}
    reply = comfy.post("/api/stateless/prompt", body | place(receiver, job_id, **{"async": False}))
    assert reply.status == 200, reply.body
    assert [url.endswith(".webp") for url in reply.json["images"]] == [True, True, False, False]
    assert contents(receiver, reply.json["images"]) == plain.images


def test_outputs_go_to_a_real_s3(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    (tmp_path / "s3").mkdir()
    with seaweed(tmp_path / "s3") as storage:
        env = {
            "AWS_ACCESS_KEY_ID": ADMIN.access_key_id,
            "AWS_SECRET_ACCESS_KEY": ADMIN.secret_access_key.get_secret_value(),
            "AWS_ENDPOINT_URL": storage.origin,
            "AWS_REGION": "us-east-1",
        }
        with ComfyServer(install, tmp_path / "comfyui", env) as server:
            server.wait_until_ready()
            plain = server.prompt(several(), id="a b")
            where: dict[str, Any] = {"s3": {"bucket": BUCKET, "prefix": "in/here/", "async": False}}
            reply: Reply = server.prompt(several(), id="a b", **where)
        assert reply.status == 200, reply.body
        assert reply.json["images"] == [
            f"s3://{BUCKET}/in/here/{name}" for name in plain.json["filenames"]
        ]
        keys = [url.removeprefix(f"s3://{BUCKET}/") for url in reply.json["images"]]
        client = storage.raw
        found = [client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys]
        client.close()
        assert found == plain.images
