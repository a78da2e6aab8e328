"""Every route answers every error in the one shape."""

from __future__ import annotations

import asyncio
import errno
import gzip
import http.client
import io
import json
import logging
from contextlib import closing
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from comfyui_stateless import errors
from comfyui_stateless.api.app import unavailable_app
from comfyui_stateless.api.schemas import ErrorReply
from comfyui_stateless.errors import StatelessError
from comfyui_stateless.readiness import Phase
from tests.api.conftest import Client, Serve, Site
from tests.fakes import FakeEngine, Gate, Play, eventually, graph


async def error_of(response: aiohttp.ClientResponse, status: int, code: str) -> dict[str, Any]:
    """Return the body of an error response, having checked its shape."""
    assert response.status == status
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    body: dict[str, Any] = await response.json()
    ErrorReply.model_validate(body)
    assert body["code"] == code
    assert body["error"].endswith(".")
    return body


async def refusal(site: Site, payload: Any, code: str, status: int = 400) -> dict[str, Any]:
    async with site.client.post("/prompt", data=payload) as response:
        return await error_of(response, status, code)


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/prompts", "/docs/nothing.js", "/%F0%9F%98%80%22"]
)
async def test_an_unknown_path_is_a_404_that_says_where_to_look(serve: Serve, path: str) -> None:
    site = await serve()
    async with site.client.get(path) as response:
        body = await error_of(response, 404, "not_found")
    assert "location" not in body
    assert "docs" in body["error"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/prompt", "POST"),
        ("DELETE", "/interrupt", "POST"),
        ("POST", "/models", "GET,HEAD"),
        ("PUT", "/health", "GET,HEAD"),
        ("POST", "/docs/json", "GET,HEAD"),
    ],
)
async def test_a_wrong_method_is_a_405_that_says_what_is_allowed(
    serve: Serve, method: str, path: str, allowed: str
) -> None:
    site = await serve()
    async with site.client.request(method, path) as response:
        body = await error_of(response, 405, "method_not_allowed")
        assert response.headers["Allow"] == allowed
    assert allowed in body["error"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/nothing"), ("DELETE", "/prompt")])
async def test_behind_a_gateway_the_path_is_named_that_the_client_asked_for(
    serve: Serve, method: str, path: str
) -> None:
    site = await serve()
    headers = {"X-Forwarded-Uri": "/comfy/that?secret=1"}
    async with site.client.request(method, path, headers=headers) as response:
        message = (await response.json())["error"]
    assert "/comfy/that" in message
    assert path not in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("body", "code", "location"),
    [
        (b"", "invalid_request", None),
        (b"nonsense", "invalid_request", None),
        (b"[]", "invalid_request", None),
        (b'{"prompt": NaN}', "invalid_request", None),
        (b"\xff\xfe\xff", "invalid_request", None),
        (b"[" * 100_000, "invalid_request", None),
        (b"{}", "invalid_request", "prompt"),
        (b'{"prompt": {}}', "invalid_request", "prompt"),
        (b'{"prompt": []}', "invalid_request", "prompt"),
        (b'{"prompt": {"1": 5}}', "invalid_prompt", "prompt.1"),
        (b'{"prompt": {"1": {"inputs": {}}}}', "invalid_prompt", "prompt.1.class_type"),
        (b'{"prompt": {"1": {"class_type": "A"}}}', "invalid_prompt", "prompt.1.inputs"),
        (b'{"prompt": {"nodes": [], "links": []}}', "invalid_prompt", "prompt"),
    ],
)
async def test_a_wrong_body_is_a_400_that_says_where(
    serve: Serve, body: bytes, code: str, location: str | None
) -> None:
    site = await serve()
    answer = await refusal(site, body, code)
    assert answer.get("location") == location
    assert site.engine.ran == []


@pytest.mark.parametrize(
    ("field", "value", "location"),
    [
        ("id", "", "id"),
        ("id", "x" * 256, "id"),
        ("id", 5, "id"),
        ("id", "\ud800", "id"),
        ("timeout_s", 0, "timeout_s"),
        ("timeout_s", "5", "timeout_s"),
        ("priority", 1.5, "priority"),
        ("priority", True, "priority"),
        ("extra_data", [], "extra_data"),
        ("extra_data", {"extra_pnginfo": "x"}, "extra_data"),
        ("convert_output", {"format": "bmp"}, "convert_output.format"),
        ("convert_output", {"format": "webp", "options": {"quality": 101}},
         "convert_output.options.quality"),
        ("convert_output", {"format": "png", "options": None}, "convert_output.options"),
    ],
)  # fmt: skip
async def test_a_wrong_field_is_a_400_that_names_it(
    serve: Serve, field: str, value: Any, location: str
) -> None:
    site = await serve()
    answer = await refusal(site, json.dumps({"prompt": graph(), field: value}), "invalid_request")
    assert answer["location"] == location
    assert answer["error"].startswith(f"{location}: ")
    assert {"location", "message"} <= set(answer["details"]["errors"][0])
    assert site.engine.prompts == []


async def test_a_graph_without_an_output_node_is_a_400(serve: Serve) -> None:
    site = await serve()
    lonely = {"1": {"class_type": "EmptyImage", "inputs": {}}}
    answer = await refusal(site, json.dumps({"prompt": lonely}), "no_output")
    assert answer["location"] == "prompt"


async def test_an_output_prefix_that_leaves_the_folder_is_a_400(serve: Serve) -> None:
    site = await serve()
    answer = await refusal(site, json.dumps({"prompt": graph("../x")}), "invalid_prompt")
    assert answer["location"] == "prompt.2.inputs.filename_prefix"


async def test_what_comfyui_refuses_is_a_400_with_its_node_errors(serve: Serve) -> None:
    node_errors = {"2": {"errors": [{"type": "value_bigger_than_max", "max": float("inf")}]}}
    invalid = errors.InvalidPrompt("Prompt has no outputs.", details={"node_errors": node_errors})
    site = await serve(FakeEngine(invalid=invalid))
    answer = await refusal(site, json.dumps({"prompt": graph()}), "invalid_prompt")
    assert answer["details"]["node_errors"]["2"]["errors"][0]["max"] is None


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded"]
)
async def test_json_is_read_whatever_the_client_calls_it(serve: Serve, content_type: str) -> None:
    site = await serve()
    wire = json.dumps({"prompt": graph()})
    headers = {"Content-Type": content_type}
    async with site.client.post("/prompt", data=wire, headers=headers) as response:
        assert response.status == 200


async def body_in_pieces(size: int) -> Any:
    for _ in range(size // 1000):
        yield b" " * 1000


@pytest.mark.parametrize("route", ["/prompt", "/interrupt"])
async def test_a_body_over_the_limit_is_a_413_with_and_without_a_length(
    serve: Serve, route: str
) -> None:
    site = await serve(max_body_size_mb=0.1)
    for body in (b" " * 200_000, body_in_pieces(200_000)):
        async with site.client.post(route, data=body) as response:
            assert "MAX_BODY_SIZE_MB" in (await error_of(response, 413, "body_too_large"))["error"]


async def test_a_connection_whose_request_was_not_read_to_its_end_is_closed(serve: Serve) -> None:
    site = await serve(max_body_size_mb=1)
    async with site.client.post("/prompt", data=io.BytesIO(bytes(20_000_000))) as response:
        await error_of(response, 413, "body_too_large")
        assert response.headers["Connection"] == "close"


async def test_a_body_that_is_small_only_while_compressed_is_a_413(serve: Serve) -> None:
    site = await serve(max_body_size_mb=0.1)
    headers = {"Content-Encoding": "gzip"}
    bomb = gzip.compress(b" " * 10_000_000)
    assert len(bomb) < 100_000
    async with site.client.post("/prompt", data=bomb, headers=headers) as response:
        await error_of(response, 413, "body_too_large")


async def test_a_compressed_body_is_read(serve: Serve) -> None:
    site = await serve()
    wire = gzip.compress(json.dumps({"prompt": graph()}).encode())
    headers = {"Content-Encoding": "gzip"}
    async with site.client.post("/prompt", data=wire, headers=headers) as response:
        assert response.status == 200


async def test_a_body_that_is_not_compressed_as_it_says_is_a_400(serve: Serve) -> None:
    site = await serve()
    headers = {"Content-Encoding": "gzip"}
    async with site.client.post("/prompt", data=b"plain text", headers=headers) as response:
        await error_of(response, 400, "invalid_request")


async def test_a_body_of_many_megabytes_is_read(serve: Serve) -> None:
    site = await serve()
    wanted = graph()
    wanted["1"]["inputs"]["note"] = "x" * 5_000_000
    wire = io.BytesIO(json.dumps({"prompt": wanted}).encode())
    async with site.client.post("/prompt", data=wire) as response:
        assert response.status == 200
        body = await response.json()
    assert body["prompt"]["1"]["inputs"]["note"] == "x" * 5_000_000


@pytest.mark.parametrize(
    ("accept", "begins"),
    [
        ("text/*", "Accept takes none"),
        ("text/html", "Accept takes none"),
        ("application/json;q=0", "Accept takes none"),
        ("nonsense", "Accept takes none"),
    ],
)
async def test_a_form_that_there_is_not_is_a_406_before_anything_runs(
    serve: Serve, accept: str, begins: str
) -> None:
    site = await serve()
    async with site.prompt(accept) as response:
        body = await error_of(response, 406, "not_acceptable")
    assert body["error"].startswith(begins)
    assert site.engine.prompts == []


@pytest.mark.parametrize(
    ("phase", "reason"),
    [
        (Phase.STARTING, "ComfyUI is starting."),
        (Phase.WARMING, "The warm-up prompt is running."),
        (Phase.DRAINING, "The server is shutting down."),
    ],
)
async def test_a_prompt_is_a_503_while_the_server_takes_no_work(
    serve: Serve, phase: Phase, reason: str
) -> None:
    site = await serve(phase=phase)
    async with site.prompt() as response:
        body = await error_of(response, 503, "unavailable")
        assert response.headers["Retry-After"] == "5"
    assert body["error"] == reason


async def test_a_full_queue_is_a_429_where_it_rejects(serve: Serve) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate), max_queue_depth=1, reject_when_full=True)
    first = asyncio.ensure_future(site.prompt())
    await eventually(lambda: bool(site.engine.ran))
    async with site.prompt() as response:
        await error_of(response, 429, "queue_full")
        assert response.headers["Retry-After"] == "5"
    gate.is_open.set()
    async with await first as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (errors.ExecutionError("SaveImage: no.", details={"node_id": "2"}), 500, "execution_error"),
        (errors.OutOfMemory("Out of memory."), 500, "out_of_memory"),
        (errors.WorkerDied("The worker died."), 500, "worker_died"),
        (errors.ConversionError("Not converted."), 500, "conversion_failed"),
        (errors.ExecutionInterrupted("Interrupted."), 409, "interrupted"),
    ],
)
async def test_what_ends_a_run_is_answered_with_its_own_status(
    serve: Serve, raised: StatelessError, status: int, code: str
) -> None:
    async def fail(play: Play) -> None:
        raise raised

    site = await serve(FakeEngine(fail))
    async with site.prompt() as response:
        body = await error_of(response, status, code)
    assert body["details"] == raised.details


async def test_a_job_over_its_time_is_stopped_and_answered_504(serve: Serve) -> None:
    site = await serve(FakeEngine(Gate()))
    async with site.prompt(id="slow", timeout_s=0.05) as response:
        body = await error_of(response, 504, "timeout")
    assert "0.05" in body["error"]
    assert site.engine.stopped == ["slow"]


async def test_an_unforeseen_failure_is_a_500_that_tells_the_log_only(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(play: Play) -> None:
        raise RuntimeError("the secret inside")

    site = await serve(FakeEngine(fail))
    async with site.prompt() as response:
        body = await error_of(response, 500, "internal_error")
    assert "secret" not in json.dumps(body)
    assert "the secret inside" in caplog.text


async def test_a_failure_outside_of_a_job_is_a_500_too(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(FakeEngine):
        async def models(self) -> dict[str, list[str]]:
            raise LookupError("the secret inside")

    site = await serve(Broken())
    async with site.client.get("/models") as response:
        body = await error_of(response, 500, "internal_error")
    assert "secret" not in json.dumps(body)
    assert "the secret inside" in caplog.text


async def test_a_full_disk_outside_of_a_job_is_told_as_one(serve: Serve) -> None:
    class Full(FakeEngine):
        async def models(self) -> dict[str, list[str]]:
            raise OSError(errno.ENOSPC, "No space left on device", "/somewhere/private")

    site = await serve(Full())
    async with site.client.get("/models") as response:
        body = await error_of(response, 507, "no_space")
    assert "private" not in json.dumps(body)


async def test_a_failure_after_the_reply_began_breaks_the_transfer_off(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half of it")
        raise errors.ConversionError("It went wrong.")

    site = await serve(change=lambda app: app.router.add_get("/half", half))
    client = site.client
    async with client.get("/half") as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert "It went wrong." in caplog.text
    async with client.get("/health") as response:
        assert response.status == 200


async def test_one_connection_serves_on_after_every_kind_of_error(serve: Serve) -> None:
    site = await serve()
    good = json.dumps({"prompt": graph()})
    requests = [
        ("GET", "/nothing", "", {}, 404),
        ("GET", "/prompt", "", {}, 405),
        ("POST", "/prompt", "{", {}, 400),
        ("POST", "/prompt", good, {"Accept": "text/html"}, 406),
        ("POST", "/prompt", good, {"Accept": "video/*"}, 406),
        ("POST", "/prompt", good, {}, 200),
    ]

    def ask(port: int) -> list[int]:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            connection.connect()
            connection.auto_open = 0
            statuses = []
            for method, path, body, headers, _ in requests:
                connection.request(method, path, body, headers)
                with connection.getresponse() as response:
                    response.read()
                    statuses.append(response.status)
            return statuses

    assert site.client.port is not None
    statuses = await asyncio.to_thread(ask, site.client.port)
    assert statuses == [status for *_, status in requests]


async def test_without_its_parts_the_api_answers_everything_with_the_reason(start: Any) -> None:
    error = errors.ConfigError("Wrong environment variables: LOG_LEVEL: bad.")
    client: Client = await start(unavailable_app(error, headers={"X-Own": "1"}))
    for method, path in [("GET", "/"), ("POST", "/prompt"), ("DELETE", "/a/b"), ("GET", "/docs")]:
        async with client.request(method, path) as response:
            body = await error_of(response, 503, "invalid_configuration")
            assert response.headers["X-Own"] == "1"
        assert body["error"] == error.message
    async with client.get("/health") as response:
        assert response.status == 500
        body = await response.json()
        assert body["status"] == "not healthy"
        assert body["reason"] == error.message
    async with client.get("/ready") as response:
        assert response.status == 503
        assert (await response.json())["status"] == "not ready"


async def test_ids_and_paths_do_not_forge_log_lines(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(play: Play) -> None:
        raise errors.ExecutionError("broke\nINFO forged.")

    caplog.set_level(logging.INFO)
    site = await serve(FakeEngine(fail))
    async with site.prompt(id="x\nINFO forged", unheard="\n") as response:
        await error_of(response, 500, "execution_error")
    assert not any("\n" in record.getMessage() for record in caplog.records)
