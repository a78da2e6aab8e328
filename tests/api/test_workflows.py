"""Workflow endpoints over HTTP, on the scripted engine: files in a folder, requests, answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from comfyui_stateless.engine import FileForm, MediaInput, NodeClass
from tests.accepting import messages, soon
from tests.api.conftest import Serve, Site
from tests.fakes import CLASSES, FakeEngine, eventually, graph
from tests.webhooks.receivers import Receiver

DEFINITIONS: dict[str, dict[str, Any]] = {
    "EmptyImage": {
        "input": {
            "required": {
                "width": ["INT", {"default": 512, "min": 1, "max": 1024}],
                "height": ["INT", {"default": 512, "min": 1, "max": 1024}],
            }
        }
    },
    "SaveImage": {
        "input": {
            "required": {
                "images": ["IMAGE"],
                "filename_prefix": ["STRING", {"default": "ComfyUI"}],
            }
        }
    },
    "KSampler": {
        "input": {"required": {"sampler_name": [["euler", "heun"]], "scheduler": [["simple"]]}}
    },
}

YAML = """
summary: Plain
inputs:
  width: {node: "1", input: width, maximum: 64, description: In pixels.}
  name: {node: "2", input: filename_prefix, required: true}
"""

PYTHON = """
from pydantic import BaseModel, Field
from comfyui_stateless.workflows import Sampler, Seed

summary = "Made by code"

class RequestSchema(BaseModel):
    width: int = Field(4, le=64, description="In pixels.")
    sampler: Sampler = "euler"
    seed: Seed

async def generate_workflow(input):
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": input.width, "height": 4}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "p"}},
    }
"""


TRIES, PAUSE_S = 400, 0.05


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    receiver = await Receiver().start()
    yield receiver
    await receiver.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "workflows"
    made.mkdir()
    return made


def engine(**more: Any) -> FakeEngine:
    return FakeEngine(definitions=DEFINITIONS, **more)


def put(folder: Path, path: str, text: str | dict[str, Any]) -> Path:
    """Write a file in one go, so that nobody sees half of it."""
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.new")
    part.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    part.replace(file)
    return file


def files_below(folder: Path) -> dict[str, bytes]:
    """Return what lies in a folder, but for the server's own state."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and "state" not in file.parts and "__pycache__" not in file.parts
    }


async def call(site: Site, path: str, given: Any, **fields: Any) -> tuple[int, Any]:
    body = {"input": given, **fields}
    async with site.client.post(f"/workflow/{path}", json=body) as response:
        return response.status, await response.json()


async def listed(site: Site) -> dict[str, Any]:
    async with site.client.get("/workflow") as response:
        assert response.status == 200
        said: dict[str, Any] = await response.json()
    return said


def paths(said: dict[str, Any]) -> list[str]:
    return [entry["path"] for entry in said["workflows"]]


async def becomes(site: Site, path: str, given: Any, *, expected: Any) -> None:
    """Wait until an endpoint answers with what is expected: a status, or an ``input``."""
    seen: tuple[int, Any] = (0, None)
    for _ in range(TRIES):
        seen = await call(site, path, given)
        if expected in (seen[0], seen[1].get("input")):
            return
        await asyncio.sleep(PAUSE_S)
    raise AssertionError(f"it stayed {seen}")


# What is there


async def test_each_kind_of_file_becomes_an_endpoint(serve: Serve, folder: Path) -> None:
    put(folder, "a/plain.json", graph())
    put(folder, "a/plain.yaml", YAML)
    put(folder, "code.py", PYTHON)
    marked = graph()
    marked["1"]["_meta"] = {"title": "Size @width @tall=height"}
    put(folder, "marked.json", marked)
    site = await serve(engine(), workflow_dir=folder)
    said = await listed(site)
    assert said["errors"] == []
    assert {each["path"]: set(each["schema"]["properties"]) for each in said["workflows"]} == {
        "a/plain": {"width", "name"},
        "code": {"width", "sampler", "seed"},
        "marked": {"width", "tall"},
    }
    assert {each["path"]: each["source"] for each in said["workflows"]}["code"] == "code.py"


async def test_one_endpoint_is_described_with_what_it_is_made_of(
    serve: Serve, folder: Path
) -> None:
    put(folder, "plain.json", graph())
    put(folder, "plain.yaml", YAML)
    site = await serve(engine(), workflow_dir=folder)
    async with site.client.get("/workflow/plain") as response:
        said = await response.json()
    assert said["summary"] == "Plain"
    width = said["schema"]["properties"]["width"]
    assert (width["minimum"], width["maximum"], width["default"]) == (1, 64, 4)
    assert width["description"] == "In pixels."
    assert said["schema"]["required"] == ["name"]
    assert said["definition"]["graph"] == graph()
    assert said["definition"]["inputs"]["width"]["node"] == "1"
    status, _ = await call(site, "plain", said["example"])
    assert status == 200


async def test_an_unknown_endpoint_is_told_with_what_is_near(serve: Serve, folder: Path) -> None:
    put(folder, "portrait.json", graph())
    site = await serve(engine(), workflow_dir=folder)
    status, body = await call(site, "portrai", {})
    assert (status, body["code"]) == (404, "not_found")
    assert body["details"]["near"] == ["portrait"]


async def test_a_folder_that_is_not_there_is_an_error_only_if_it_was_named(
    serve: Serve, tmp_path: Path
) -> None:
    site = await serve(engine(), workflow_dir=tmp_path / "missing")
    said = await listed(site)
    assert paths(said) == []
    assert "missing" in str(said["errors"])


async def test_fifty_files_of_which_three_are_broken(serve: Serve, folder: Path) -> None:
    for number in range(47):
        put(folder, f"{number % 5}/w{number}.json", graph())
    put(folder, "syntax.py", "def (:\n")
    put(folder, "empty.json", '{\n  "1": {"class_type": "EmptyImage",\n')
    put(folder, "yaml.json", graph())
    put(folder, "yaml.yaml", 'inputs:\n  width:\n    node: "7"\n    input: width\n')
    site = await serve(engine(), workflow_dir=folder)
    said = await listed(site)
    faults = {error["file"]: error for error in said["errors"]}
    assert set(faults) == {"syntax.py", "empty.json", "yaml.yaml"}
    assert (faults["syntax.py"]["line"], faults["yaml.yaml"]["line"]) == (1, 3)
    assert "7" in faults["yaml.yaml"]["reason"]
    assert all(error["line"] for error in faults.values())
    results = await asyncio.gather(*(call(site, f"{n % 5}/w{n}", {}) for n in range(47)))
    assert {status for status, _ in results} == {200}
    status, body = await call(site, "syntax", {})
    assert (status, body["code"]) == (500, "workflow_failed")
    assert "syntax.py, line 1" in body["error"]


# Requests


async def test_the_reply_is_that_of_a_prompt_with_the_whole_input(
    serve: Serve, folder: Path
) -> None:
    put(folder, "code.py", PYTHON)
    site = await serve(engine(), workflow_dir=folder)
    status, body = await call(site, "code", {"width": 8}, id="mine")
    assert status == 200
    assert body["input"]["width"] == 8
    assert body["input"]["sampler"] == "euler"
    assert isinstance(body["input"]["seed"], int)
    assert body["prompt"]["1"]["inputs"]["width"] == 8
    assert (body["id"], len(body["images"]), body["filenames"]) == (
        "mine", 1, ["mine_p_00001_.png"],
    )  # fmt: skip
    _, again = await call(site, "code", {"width": 8, "seed": body["input"]["seed"]})
    assert again["input"] == body["input"]


async def test_a_seed_that_is_left_out_is_another_each_time(serve: Serve, folder: Path) -> None:
    put(folder, "code.py", PYTHON)
    site = await serve(engine(), workflow_dir=folder)
    seeds = {(await call(site, "code", {}))[1]["input"]["seed"] for _ in range(5)}
    assert len(seeds) == 5


WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("plain", {"name": "x", "width": 65}, "input.width", "64"),
    ("plain", {"name": "x", "width": 0}, "input.width", "1 to 64"),
    ("plain", {"name": "x", "width": "8"}, "input.width", "integer"),
    ("plain", {"name": "x", "width": 8.5}, "input.width", "integer"),
    ("plain", {"name": "x", "width": True}, "input.width", "integer"),
    ("plain", {"name": "x", "width": None}, "input.width", "integer"),
    ("plain", {"name": "x", "width": [8]}, "input.width", "integer"),
    ("plain", {"name": "x", "width": {}}, "input.width", "integer"),
    ("plain", {"name": 1}, "input.name", "string"),
    ("plain", {}, "input.name", "name"),
    ("plain", {"name": "x", "wdth": 8}, "input.wdth", "width"),
    ("code", {"width": 65}, "input.width", "64"),
    ("code", {"width": "8"}, "input.width", "integer"),
    ("code", {"sampler": "nope"}, "input.sampler", "euler"),
    ("code", {"seed": -1}, "input.seed", "0"),
    ("code", {"other": 1}, "input.other", "other"),
]


@pytest.mark.parametrize(
    ("path", "given", "location", "says"), WRONG, ids=[f"{w[0]}-{json.dumps(w[1])}" for w in WRONG]
)
async def test_a_wrong_input_is_refused_before_anything_runs(
    serve: Serve, folder: Path, path: str, given: dict[str, Any], location: str, says: str
) -> None:
    put(folder, "plain.json", graph())
    put(folder, "plain.yaml", YAML)
    put(folder, "code.py", PYTHON)
    site = await serve(engine(), workflow_dir=folder)
    status, body = await call(site, path, given)
    assert (status, body["code"], body.get("location")) == (400, "invalid_request", location)
    assert says in body["error"]
    assert site.engine.ran == []


@pytest.mark.parametrize(
    "body", ["5", "[]", "x", '{"input": 5}', "{}", '{"input": {"width": 1e999}}']
)
async def test_a_body_that_is_no_request_is_refused(serve: Serve, folder: Path, body: str) -> None:
    put(folder, "code.py", PYTHON)
    site = await serve(engine(), workflow_dir=folder)
    async with site.client.post("/workflow/code", data=body) as response:
        assert response.status == 400
        assert (await response.json())["code"] == "invalid_request"


async def test_an_endpoint_takes_the_fields_of_a_prompt(serve: Serve, folder: Path) -> None:
    put(folder, "code.py", PYTHON)
    site = await serve(engine(), workflow_dir=folder)
    status, body = await call(site, "code", {}, convert_output={"format": "webp"}, priority=3)
    assert status == 200
    assert body["outputs"][0]["media_type"] == "image/webp"
    assert (body["convert_output"]["format"], body["priority"]) == ("webp", 3)
    headers = {"Accept": "image/png"}
    async with site.client.post("/workflow/code", json={"input": {}}, headers=headers) as response:
        assert response.content_type == "image/png"
    headers = {"Accept": "text/event-stream"}
    async with site.client.post("/workflow/code", json={"input": {}}, headers=headers) as response:
        text = await response.text()
    assert "event: succeeded" in text
    assert '"input":{"width":4' in text


async def test_a_file_comes_with_the_request(serve: Serve, folder: Path, tmp_path: Path) -> None:
    loading = {
        "1": {"class_type": "Load", "inputs": {"picture": "a.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "p"}},
    }
    put(folder, "load.json", loading)
    put(folder, "load.yaml", "inputs:\n  photo: {node: '1', input: picture, required: true}\n")
    classes = {**CLASSES, "Load": NodeClass(is_output=False, has_prefix=False, default_prefix=None)}
    inputs = {"Load": {"picture": MediaInput(FileForm.NAME, is_marked=True)}}
    definitions = {
        **DEFINITIONS,
        "Load": {"input": {"required": {"picture": [["a.png"], {"image_upload": True}]}}},
    }
    fake = FakeEngine(classes=classes, file_inputs=inputs, definitions=definitions)
    site = await serve(fake, workflow_dir=folder)
    form = aiohttp.FormData()
    form.add_field("request", json.dumps({"input": {"photo": "upload://x"}}))
    form.add_field("x", b"\x89PNG\r\n\x1a\n" + bytes(100), filename="x.png")
    async with site.client.post("/workflow/load", data=form) as response:
        body = await response.json()
        assert response.status == 200, body
    assert body["prompt"]["1"]["inputs"]["picture"] == fake.given[0]
    assert body["input"] == {"photo": "upload://x"}


async def test_an_input_that_cannot_be_had_is_named_as_the_caller_named_it(
    serve: Serve, folder: Path
) -> None:
    loading = {
        "1": {"class_type": "Load", "inputs": {"picture": "a.png", "other": "b"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "p"}},
    }
    put(folder, "load.json", loading)
    put(folder, "load.yaml", "inputs:\n  photo: {node: '1', input: picture, required: true}\n")
    classes = {**CLASSES, "Load": NodeClass(is_output=False, has_prefix=False, default_prefix=None)}
    inputs = {"Load": {"picture": MediaInput(FileForm.NAME, is_marked=True)}}
    picture = [["a.png"], {"image_upload": True}]
    definitions = {
        **DEFINITIONS,
        "Load": {"input": {"required": {"picture": picture, "other": ["STRING"]}}},
    }
    fake = FakeEngine(classes=classes, file_inputs=inputs, definitions=definitions)
    site = await serve(fake, workflow_dir=folder)
    status, body = await call(site, "load", {"photo": "http://u:geheim@127.0.0.1:9/a.png"})
    assert (status, body["code"], body["location"]) == (400, "invalid_input", "input.photo")
    assert "geheim" not in json.dumps(body)


async def test_a_webhook_has_the_input_too(serve: Serve, folder: Path, there: Receiver) -> None:
    put(folder, "code.py", PYTHON)
    site = await serve(engine(), workflow_dir=folder, accepting={"sleep": soon})
    status, body = await call(site, "code", {"width": 8}, id="a", webhook_v2=there.url)
    assert status == 202
    assert body["input"]["width"] == 8
    await eventually(lambda: bool(there.received))
    (message,) = messages(there)
    assert (message["type"], message["input"]) == ("prompt.complete", body["input"])


async def test_a_key_belongs_to_its_endpoint(serve: Serve, folder: Path) -> None:
    put(folder, "a.py", PYTHON)
    put(folder, "b.py", PYTHON)
    site = await serve(engine(), workflow_dir=folder)
    headers, body = {"Idempotency-Key": "k"}, {"input": {"width": 8}}
    answers = []
    for path in ("a", "a", "b"):
        async with site.client.post(f"/workflow/{path}", json=body, headers=headers) as response:
            answers.append((response.status, await response.json()))
    assert [status for status, _ in answers] == [200, 200, 422]
    assert answers[0][1]["input"] == answers[1][1]["input"]
    assert len(site.engine.ran) == 1


async def test_a_secret_in_an_address_is_not_said_again(serve: Serve, folder: Path) -> None:
    put(folder, "plain.json", graph())
    put(folder, "plain.yaml", YAML)
    site = await serve(engine(), workflow_dir=folder)
    _, body = await call(site, "plain", {"name": "https://u:geheim@example.com/x?sig=geheim"})
    assert "geheim" not in json.dumps(body["input"])


async def test_jobs_say_which_endpoint_they_came_by(serve: Serve, folder: Path) -> None:
    put(folder, "a/code.py", PYTHON)
    site = await serve(engine(), workflow_dir=folder)
    await call(site, "a/code", {})
    async with site.client.get("/jobs") as response:
        (job,) = (await response.json())["jobs"]
    assert job["source"] == "workflow/a/code"


FAILING = {
    "raises": "    raise ZeroDivisionError('so')",
    "gives no graph": "    return 5",
    "exits": "    raise SystemExit(3)",
    "gives a graph of the editor": "    return {'nodes': [], 'links': []}",
}


@pytest.mark.parametrize("how", FAILING)
async def test_code_that_fails_names_its_file(serve: Serve, folder: Path, how: str) -> None:
    schema = "from pydantic import BaseModel\nclass RequestSchema(BaseModel):\n    pass\n"
    put(folder, "bad.py", f"{schema}def generate_workflow(input):\n{FAILING[how]}\n")
    site = await serve(engine(), workflow_dir=folder)
    status, body = await call(site, "bad", {})
    assert (status, body["code"]) == (500, "workflow_failed")
    assert "bad" in body["error"]
    assert (await call(site, "bad", {}))[0] == 500
    async with site.client.get("/ready") as response:
        assert response.status == 200


# Changes


async def test_what_changes_in_the_folder_takes_effect(serve: Serve, folder: Path) -> None:
    file = put(folder, "plain.json", graph())
    put(folder, "plain.yaml", "inputs:\n  width: {node: '1', input: width, default: 5}\n")
    site = await serve(engine(), workflow_dir=folder)
    await becomes(site, "plain", {}, expected={"width": 5})
    put(folder, "plain.yaml", "inputs:\n  width: {node: '1', input: width, default: 6}\n")
    await becomes(site, "plain", {}, expected={"width": 6})
    put(folder, "added.py", PYTHON)
    await becomes(site, "added", {}, expected=200)
    file.unlink()
    await becomes(site, "plain", {}, expected=404)


async def test_a_broken_change_leaves_the_last_good_version(serve: Serve, folder: Path) -> None:
    put(folder, "code.py", PYTHON)
    site = await serve(engine(), workflow_dir=folder)
    await becomes(site, "code", {}, expected=200)
    put(folder, "code.py", PYTHON.replace("async def", "async de"))
    await eventually_broken(site, "code.py")
    status, _ = await call(site, "code", {"width": 9})
    assert status == 200
    said = await listed(site)
    assert "code.py, line" in said["workflows"][0]["error"]
    put(folder, "code.py", PYTHON.replace("le=64", "le=5"))
    await becomes(site, "code", {"width": 9}, expected=400)
    assert (await listed(site))["errors"] == []


async def eventually_broken(site: Site, file: str) -> None:
    for _ in range(TRIES):
        if [error["file"] for error in (await listed(site))["errors"]] == [file]:
            return
        await asyncio.sleep(PAUSE_S)
    raise AssertionError("it was never said to be broken")


async def test_requests_go_on_while_a_file_is_edited(serve: Serve, folder: Path) -> None:
    put(folder, "plain.json", graph())
    put(folder, "plain.yaml", "inputs:\n  width: {node: '1', input: width, default: 1}\n")
    site = await serve(engine(), workflow_dir=folder)
    seen: list[tuple[int, int]] = []
    stop = False

    async def ask() -> None:
        while not stop:
            status, body = await call(site, "plain", {})
            assert status == 200, body
            seen.append((body["input"]["width"], body["prompt"]["1"]["inputs"]["width"]))

    asking = [asyncio.ensure_future(ask()) for _ in range(4)]
    for number in range(2, 6):
        text = f"inputs:\n  width: {{node: '1', input: width, default: {number}}}\n"
        put(folder, "plain.yaml", text)
        await becomes(site, "plain", {}, expected={"width": number})
    stop = True
    await asyncio.gather(*asking)
    assert {said for said, _ in seen} >= {5}
    assert all(said == ran for said, ran in seen)


async def test_the_document_follows_the_files(serve: Serve, folder: Path) -> None:
    put(folder, "a/code.py", PYTHON)
    site = await serve(engine(), workflow_dir=folder)

    async def operations() -> dict[str, Any]:
        async with site.client.get("/openapi.json") as response:
            document: dict[str, Any] = await response.json()
        return {p: said for p, said in document["paths"].items() if p.startswith("/workflow/a")}

    found = await operations()
    assert set(found) == {"/workflow/a/code"}
    description = found["/workflow/a/code"]["post"]["description"]
    assert "| `width` | integer, up to 64 | In pixels. | `4` |" in description
    put(folder, "a/more.py", PYTHON)
    for _ in range(TRIES):
        if len(await operations()) == 2:
            break
        await asyncio.sleep(PAUSE_S)
    assert set(await operations()) == {"/workflow/a/code", "/workflow/a/more"}


async def test_the_table_can_be_left_out(serve: Serve, folder: Path) -> None:
    put(folder, "code.py", PYTHON)
    site = await serve(engine(), workflow_dir=folder, markdown_schema_descriptions=False)
    async with site.client.get("/openapi.json") as response:
        said = (await response.json())["paths"]["/workflow/code"]["post"]
    assert "|" not in said["description"]


# Publishing

PUBLISHED = {
    "graph": graph(),
    "inputs": {"width": {"node": "1", "input": "width", "maximum": 10}},
    "summary": "Saved",
}


async def publish(site: Site, path: str, body: Any = None) -> tuple[int, Any]:
    async with site.client.put(f"/workflow/{path}", json=body or PUBLISHED) as response:
        return response.status, await response.json()


async def test_publishing_is_refused_where_it_is_not_allowed(serve: Serve, folder: Path) -> None:
    site = await serve(engine(), workflow_dir=folder)
    status, body = await publish(site, "a")
    assert status == 403
    assert "ALLOW_PUBLISH" in body["error"]
    async with site.client.delete("/workflow/a") as response:
        assert response.status == 403
    assert files_below(folder) == {}


async def test_a_published_endpoint_is_there_at_once_and_can_be_replaced_and_removed(
    serve: Serve, folder: Path
) -> None:
    site = await serve(engine(), workflow_dir=folder, allow_publish=True)
    assert (await publish(site, "mine/a"))[0] == 201
    assert (await call(site, "mine/a", {"width": 10}))[0] == 200
    assert (await call(site, "mine/a", {"width": 11}))[0] == 400
    assert sorted(files_below(folder)) == ["mine/a.json", "mine/a.yaml"]
    wider = {**PUBLISHED, "inputs": {"width": {"node": "1", "input": "width", "maximum": 11}}}
    status, body = await publish(site, "mine/a", wider)
    assert (status, body["definition"]["inputs"]) == (200, wider["inputs"])
    assert (await call(site, "mine/a", {"width": 11}))[0] == 200
    async with site.client.delete("/workflow/mine/a") as response:
        assert response.status == 200
    assert (await call(site, "mine/a", {}))[0] == 404
    assert files_below(folder) == {}


@pytest.mark.parametrize(
    ("change", "location"),
    [
        ({"inputs": {"w": {"node": "9", "input": "width"}}}, "inputs.w"),
        ({"inputs": {"w": {"node": "1", "input": "nope"}}}, "inputs.w"),
        ({"inputs": {"w": {"node": "2", "input": "images"}}}, "inputs.w"),
        ({"inputs": {"w": {"node": "1", "input": "width", "maximum": 0}}}, "inputs.w"),
        ({"inputs": {"w": {"node": "1", "input": "width", "type": "colour"}}}, "inputs.w"),
        ({"graph": {}}, "graph"),
        ({"graph": {"nodes": [], "links": []}}, "graph"),
        ({"graph": 5}, "graph"),
    ],
)
async def test_what_could_not_be_loaded_is_not_saved(
    serve: Serve, folder: Path, change: dict[str, Any], location: str
) -> None:
    site = await serve(engine(), workflow_dir=folder, allow_publish=True)
    status, body = await publish(site, "a", {**PUBLISHED, **change})
    assert (status, body["code"]) == (400, "invalid_request")
    assert body["location"].startswith(location)
    assert files_below(folder) == {}


HOSTILE = ["%2e%2e/a", "a%2f%2e%2e%2f%2e%2e%2fb", ".hidden", "a/.b", "_a", "x%00", "a%5cb", "a" * 101,
           "__pycache__/a", "a.py", "/a", "a//b", "%0a", "CON%3a", "a%20"]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE)
async def test_a_hostile_path_is_not_written(
    serve: Serve, folder: Path, tmp_path: Path, path: str
) -> None:
    site = await serve(engine(), workflow_dir=folder, allow_publish=True)
    before = files_below(tmp_path)
    url = URL(f"{site.client.make_url('/')}workflow/{path}", encoded=True)
    async with aiohttp.ClientSession() as session, session.put(url, json=PUBLISHED) as response:
        assert response.status in (400, 404), await response.text()
    assert files_below(tmp_path) == before


async def test_code_and_links_are_never_replaced_or_removed(
    serve: Serve, folder: Path, tmp_path: Path
) -> None:
    put(folder, "code.py", PYTHON)
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / "out").symlink_to(outside)
    (folder / "linked.json").symlink_to(put(outside, "real.json", graph()))
    before = files_below(tmp_path)
    site = await serve(engine(), workflow_dir=folder, allow_publish=True)
    for path in ("code", "out/a", "linked"):
        status, _ = await publish(site, path)
        assert status == 409, path
        async with site.client.delete(f"/workflow/{path}") as response:
            assert response.status in (404, 409), path
    assert files_below(tmp_path) == before
