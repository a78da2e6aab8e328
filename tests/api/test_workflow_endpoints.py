"""Workflow endpoints over HTTP: run as prompts are, listed, described, saved and removed."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from yarl import URL

from comfyui_stateless.api.state import WORKFLOWS
from comfyui_stateless.engine import FileForm, MediaInput
from comfyui_stateless.requests import PromptRequest
from tests.api.conftest import Serve, Site
from tests.fakes import CLASSES, FakeEngine
from tests.webhooks.receivers import Receiver, until
from tests.workflows.definitions import DEFINITIONS, FILES, MODELS, node, small_graph, write

YAML = """\
summary: A canvas
description: Of one size.
inputs:
  width: {node: 1, input: width, maximum: 1024, description: Width | in pixels}
  seed: {node: 1, input: height, type: seed}
"""

PYTHON = """\
from pydantic import BaseModel
class Inner(BaseModel):
    depth: int = 1
class RequestSchema(BaseModel):
    prefix: str
    inner: Inner = Inner()
def generate_workflow(input):
    return {"1": {"class_type": "EmptyImage", "inputs": {}},
            "2": {"class_type": "SaveImage",
                  "inputs": {"images": ["1", 0], "filename_prefix": input.prefix}}}
"""

Open = Callable[..., Awaitable[Site]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "workflows"
    write(folder, "sd1.5/canvas", small_graph("Canvas"), YAML)
    (folder / "plain.py").write_text(PYTHON)
    (folder / "broken.py").write_text("a = 1\nb = (\n")
    return folder


@pytest.fixture
def site(serve: Serve, folder: Path) -> Open:
    async def opened(**options: Any) -> Site:
        engine = FakeEngine(
            definitions=DEFINITIONS,
            classes=CLASSES,
            model_files=MODELS,
            file_inputs=options.pop("file_inputs", FILES),
        )
        return await serve(engine, workflow_dir=folder, **options)

    return opened


async def run(site: Site, given: Any, path: str = "sd1.5/canvas", **fields: Any) -> Any:
    headers = fields.pop("headers", {})
    body = {"input": given, **fields}
    async with site.client.post(f"/workflow/{path}", json=body, headers=headers) as response:
        return response.status, await response.json(content_type=None)


async def test_an_endpoint_runs_and_answers_as_a_prompt_does(site: Open) -> None:
    status, body = await run(await site(), {"width": 128}, id="mine")
    assert status == 200
    seed = body["input"]["seed"]
    assert body["input"] == {"width": 128, "seed": seed}
    assert body["prompt"]["1"]["inputs"] == {"width": 128, "height": seed, "tiled": False}
    assert body["id"] == "mine"
    assert body["filenames"] == ["mine_out_00001_.png"]
    assert set(body) >= {"images", "outputs", "texts", "stats"}


async def test_every_field_of_a_prompt_is_taken(site: Open) -> None:
    opened = await site()
    kept = set(PromptRequest.model_fields) - {"prompt"}
    fields: dict[str, Any] = {
        "convert_output": {"format": "jpeg"}, "timeout_s": 5.0, "priority": 2, "extra_data": {"a": 1},
        "credentials": [{"url_pattern": "**", "auth": {"type": "bearer", "token": "hush"}}],
    }  # fmt: skip
    assert set(fields) <= kept
    status, body = await run(opened, {}, **fields)
    assert status == 200
    assert body["convert_output"] == {"format": "jpeg"}
    assert body["outputs"][0]["media_type"] == "image/jpeg"
    assert "hush" not in json.dumps(body)
    for name in kept:
        wrong: dict[str, Any] = {name: ["wrong"]}
        status, body = await run(opened, {}, **wrong)
        assert (status, body["location"].split(".")[0]) == (400, name)


async def test_accept_chooses_the_form_of_the_answer(site: Open) -> None:
    opened = await site()
    for accept, kind in (("image/png", "image/png"), ("application/zip", "application/zip")):
        headers = {"Accept": accept}
        async with opened.client.post(
            "/workflow/sd1.5/canvas", json={"input": {}}, headers=headers
        ) as response:
            assert (response.status, response.content_type) == (200, kind)
            assert await response.read()


async def test_an_event_stream_ends_with_the_input(site: Open) -> None:
    opened = await site()
    headers = {"Accept": "text/event-stream"}
    async with opened.client.post(
        "/workflow/sd1.5/canvas", json={"input": {"width": 256}}, headers=headers
    ) as response:
        text = (await response.read()).decode()
    last = [line for line in text.splitlines() if line.startswith("data: ")][-1]
    assert json.loads(last.removeprefix("data: "))["input"]["width"] == 256


async def test_an_upload_of_a_form_is_taken(site: Open, folder: Path) -> None:
    nodes = {**small_graph(""), "3": node("Loader", "@image", image="there.png", lora_name="x")}
    write(folder, "media", nodes)
    opened = await site(file_inputs={"Loader": {"image": MediaInput(FileForm.NAME, True)}})
    form = aiohttp.FormData()
    form.add_field("request", json.dumps({"input": {"image": "upload://photo"}}))
    form.add_field("photo", b"\x89PNG\r\n\x1a\n", filename="photo.png")
    async with opened.client.post("/workflow/media", data=form) as response:
        body = await response.json()
    assert response.status == 200, body
    assert opened.engine.given[0].endswith(".png")
    assert body["prompt"]["3"]["inputs"]["image"] == opened.engine.given[0]
    assert body["input"]["image"] == "upload://photo"


async def test_a_secret_in_a_url_is_not_echoed(site: Open, folder: Path) -> None:
    nodes = {**small_graph(""), "3": node("EmptyImage", "@note", note="", width=16, height=1)}
    write(folder, "note", nodes)
    url = "https://user:hush@example.com/a.png?signature=hush"
    _, body = await run(await site(), {"note": url}, "note")
    assert body["input"] == {"note": "https://example.com/a.png?…"}


async def test_an_idempotency_key_joins_the_same_request_to_the_same_path(
    site: Open, folder: Path
) -> None:
    write(folder, "other", small_graph())
    opened = await site()
    headers = {"Idempotency-Key": "one"}
    _, first = await run(opened, {}, headers=headers)
    _, again = await run(opened, {}, headers=headers)
    assert first == again
    assert len(opened.engine.ran) == 1
    status, body = await run(opened, {}, "other", headers=headers)
    assert (status, body["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("width", [128, 8])
async def test_a_webhook_hears_of_the_input(site: Open, width: int) -> None:
    opened = await site()
    await opened.background.resume()
    receiver = await Receiver().start()
    try:
        fields = {"webhook_v2": receiver.url, "id": "mine"}
        status, body = await run(opened, {"width": width}, **fields)
        if width == 8:
            assert (status, body["location"]) == (400, "input.width")
            return
        assert (status, body["status"]) == (202, "ok")
        assert body["input"]["width"] == 128
        await until(lambda: receiver.received)
        message = json.loads(receiver.received[0].body)
    finally:
        await receiver.stop()
    assert message["type"] == "prompt.complete"
    assert message["input"] == body["input"]


async def test_a_job_knows_its_endpoint(site: Open) -> None:
    opened = await site()
    await run(opened, {}, id="mine")
    job = opened.services.jobs.find("mine")
    assert job is not None
    assert job.source == "workflow/sd1.5/canvas"


@pytest.mark.parametrize(
    ("body", "location"),
    [
        ({"input": {"width": "x"}}, "input.width"),
        ({"input": {"other": 1}}, "input.other"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({}, "input"),
        ({"input": {}, "id": ""}, "id"),
    ],
)
async def test_a_wrong_request_is_refused_before_anything_runs(
    site: Open, body: Any, location: str
) -> None:
    opened = await site()
    async with opened.client.post("/workflow/sd1.5/canvas", json=body) as response:
        said = await response.json()
    assert (response.status, said["location"]) == (400, location)
    assert set(said) == {"error", "code", "location", "details"}
    assert opened.engine.ran == []


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
async def test_a_number_that_is_none_is_refused(site: Open, number: str) -> None:
    text = f'{{"input": {{"width": {number}}}}}'
    async with (await site()).client.post("/workflow/sd1.5/canvas", data=text) as response:
        assert response.status == 400


async def test_an_unknown_path_is_404_with_what_is_near(site: Open) -> None:
    opened = await site()
    for method in ("GET", "POST"):
        async with opened.client.request(
            method, "/workflow/sd15/canvas", json={"input": {}}
        ) as response:
            said = await response.json()
        assert (response.status, said["code"]) == (404, "not_found")
        assert said["details"] == {"near": ["sd1.5/canvas"]}


async def test_a_broken_file_is_named_when_it_is_called(site: Open) -> None:
    status, body = await run(await site(), {}, "broken")
    assert (status, body["code"]) == (500, "workflow_failed")
    assert "broken.py, line 2" in body["error"]


async def test_the_list_has_all_endpoints_and_all_errors(site: Open, folder: Path) -> None:
    async with (await site()).client.get("/workflow") as response:
        said = await response.json()
    assert [each["path"] for each in said["workflows"]] == ["broken", "plain", "sd1.5/canvas"]
    canvas = said["workflows"][2]
    assert (canvas["summary"], canvas["source"]) == ("A canvas", "sd1.5/canvas.json")
    assert canvas["schema"]["properties"]["width"]["maximum"] == 1024
    assert said["errors"] == [{"file": "broken.py", "line": 2, "reason": "'(' was never closed"}]
    assert str(folder) not in json.dumps(said)


async def test_one_endpoint_is_described_with_its_definition(site: Open) -> None:
    async with (await site()).client.get("/workflow/sd1.5/canvas") as response:
        said = await response.json()
    assert said["definition"]["graph"] == small_graph("Canvas")
    assert said["definition"]["inputs"]["seed"] == {"node": "1", "input": "height", "type": "seed"}
    assert said["example"] == {"width": 64}


async def test_a_path_may_have_any_characters(site: Open, folder: Path) -> None:
    write(folder, "a b/ü {x}%2F", small_graph("@width"))
    opened = await site()
    status, _ = await run(opened, {"width": 64}, "a%20b/%C3%BC%20%7Bx%7D%252F")
    assert status == 200


async def document(site: Site) -> Any:
    async with site.client.get("/openapi.json") as response:
        return await response.json()


async def test_the_document_has_a_valid_operation_for_each_endpoint(site: Open) -> None:
    opened = await site()
    said = await document(opened)
    OpenAPIV31SpecValidator(said).validate()
    operation = said["paths"]["/workflow/sd1.5/canvas"]["post"]
    assert operation["summary"] == "A canvas"
    assert operation["description"].startswith("Of one size.\n\n| Field | Type |")
    assert "Width \\| in pixels" in operation["description"]
    assert "/workflow/broken" not in said["paths"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    status, _ = await run(opened, given=example["input"])
    assert status == 200


async def test_the_document_follows_what_changes(site: Open, folder: Path) -> None:
    opened = await site()
    before = await document(opened)
    assert "/workflow/new" not in before["paths"]
    opened.client.app[WORKFLOWS]._rescan_s = 0
    write(folder, "new", small_graph("@width"))
    assert "/workflow/new" in (await document(opened))["paths"]


async def test_descriptions_have_no_table_where_it_is_turned_off(site: Open) -> None:
    said = await document(await site(markdown_schema_descriptions=False))
    assert said["paths"]["/workflow/sd1.5/canvas"]["post"]["description"] == "Of one size."


# Publishing


PUBLISHED = {
    "graph": small_graph("Canvas"),
    "inputs": {"width": {"node": "1", "input": "width"}},
    "summary": "Mine: yes",
}


async def put(site: Site, path: str, body: Any = PUBLISHED) -> tuple[int, Any]:
    async with site.client.put(f"/workflow/{path}", json=body) as response:
        return response.status, await response.json()


async def delete(site: Site, path: str) -> tuple[int, Any]:
    async with site.client.delete(f"/workflow/{path}") as response:
        return response.status, await response.json()


async def test_what_is_published_is_there_at_once_and_can_be_removed(
    site: Open, folder: Path
) -> None:
    opened = await site(allow_publish=True)
    await run(opened, {})
    status, said = await put(opened, "mine/new")
    assert (status, said["summary"]) == (201, "Mine: yes")
    assert (await run(opened, {"width": 64}, "mine/new"))[0] == 200
    assert sorted(path.name for path in (folder / "mine").iterdir()) == ["new.json", "new.yaml"]
    changed = {**PUBLISHED, "inputs": {"w": {"node": "1", "input": "width"}}}
    assert (await put(opened, "mine/new", changed))[0] == 200
    assert (await run(opened, {"w": 64}, "mine/new"))[0] == 200
    assert await delete(opened, "mine/new") == (200, {"path": "mine/new", "status": "removed"})
    assert (await run(opened, {}, "mine/new"))[0] == 404
    assert not (folder / "mine").exists()


async def test_a_folder_that_holds_something_else_stays(site: Open, folder: Path) -> None:
    opened = await site(allow_publish=True)
    for path in ("mine/deep/new", "mine/other"):
        assert (await put(opened, path))[0] == 201
    assert (await delete(opened, "mine/deep/new"))[0] == 200
    assert sorted(path.name for path in (folder / "mine").iterdir()) == ["other.json", "other.yaml"]
    (folder / "mine" / "note.txt").touch()
    assert (await delete(opened, "mine/other"))[0] == 200
    assert [path.name for path in (folder / "mine").iterdir()] == ["note.txt"]


async def test_publishing_is_refused_unless_allowed(site: Open, folder: Path) -> None:
    opened = await site()
    for status, said in (await put(opened, "new"), await delete(opened, "sd1.5/canvas")):
        assert (status, said["code"]) == (403, "publishing_not_allowed")
    assert (folder / "sd1.5" / "canvas.json").exists()
    assert not (folder / "new.json").exists()


@pytest.mark.parametrize(
    ("change", "location"),
    [
        ({"graph": {"1": {}}}, "graph.1"),
        ({"graph": {}}, "graph"),
        ({"graph": {"nodes": [], "links": []}}, "graph"),
        ({"graph": 3}, "graph"),
        ({"inputs": {"x": {"node": "7", "input": "width"}}}, "inputs.x.node"),
        ({"inputs": {"x": {"node": "1", "input": "width", "default": 1}}}, "inputs.x.default"),
        ({"inputs": {"x": 3}}, "inputs.x"),
        ({"summary": 3}, "summary"),
    ],
)
async def test_what_would_not_load_is_not_published(
    site: Open, folder: Path, change: Any, location: str
) -> None:
    status, said = await put(await site(allow_publish=True), "new", {**PUBLISHED, **change})
    assert (status, said["location"]) == (400, location)
    assert not (folder / "new.json").exists()


@pytest.mark.parametrize(
    "path",
    [
        "..%2Foutside", "a/..%2F..%2Fb", "%2Fetc%2Fx", ".hidden", "_helper", "a//b", "a/.b",
        "node_modules/x", "package", "a.json", "a.py", "end.", "end%20", "a%00b", "a%5Cb", "%C3%BC",
        "x" * 101, "/".join("abcdefghi"),
    ],
)  # fmt: skip
async def test_a_path_that_leads_elsewhere_is_refused(site: Open, folder: Path, path: str) -> None:
    before = sorted(folder.parent.rglob("*.json"))
    opened = await site(allow_publish=True)
    url = f"{opened.client.make_url('/workflow/')}{path}"
    async with opened.client.session.put(URL(url, encoded=True), json=PUBLISHED) as response:
        assert response.status in (400, 404)
    assert sorted(folder.parent.rglob("*.json")) == before


async def test_code_is_neither_replaced_nor_removed(site: Open, folder: Path) -> None:
    opened = await site(allow_publish=True)
    for status, said in (await put(opened, "plain"), await delete(opened, "plain")):
        assert (status, said["code"]) == (409, "workflow_occupied")
    assert (folder / "plain.py").read_text() == PYTHON


async def test_nothing_is_written_behind_a_link(site: Open, folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / "link").symlink_to(outside)
    (folder / "file.json").symlink_to(outside / "file.json")
    opened = await site(allow_publish=True)
    for path in ("link/new", "link/sub/new", "file"):
        status, said = await put(opened, path)
        assert (status, said["code"]) == (409, "workflow_occupied")
    assert list(outside.iterdir()) == []
