from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.errors import RequestError, StatelessError, WorkflowFailed
from comfyui_stateless.workflows.base import HasNeighbours, Renewable, WorkflowFileError
from comfyui_stateless.workflows.javascript import JavaScript, JavaScriptEndpoint
from tests.workflows.scripts import SURROUNDINGS, TYPESCRIPT, packages, script

Load = Callable[..., "asyncio.Future[JavaScriptEndpoint]"]

LIMIT_S = 6


@pytest.fixture
async def javascript(tmp_path: Path) -> AsyncIterator[JavaScript]:
    made = JavaScript(tmp_path / "cache", packages(), limit_s=LIMIT_S)
    yield made
    await made.close()


class Folder:
    """A folder of workflow files."""

    def __init__(self, folder: Path, javascript: JavaScript) -> None:
        self.folder = folder
        self.javascript = javascript

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    async def load(self, text: str, name: str = "file.js") -> JavaScriptEndpoint:
        return await self.javascript.load(self.write(name, text), SURROUNDINGS)


@pytest.fixture
def folder(tmp_path: Path, javascript: JavaScript) -> Folder:
    return Folder(tmp_path / "workflows", javascript)


async def value_of(endpoint: JavaScriptEndpoint, **given: Any) -> Any:
    """Return what a file of `script()` put into its graph."""
    return (await endpoint.build(given)).graph["1"]["inputs"]["value"]


async def test_a_typescript_file_of_the_originals_becomes_an_endpoint(folder: Folder) -> None:
    endpoint = await folder.load(TYPESCRIPT, "sd1.5/text to image.ts")
    assert endpoint.description.summary == "Text to image"
    assert endpoint.description.description == "Makes an image of a text"
    built = await endpoint.build({"prompt": "a lighthouse", "width": 640})
    assert built.input == {
        "prompt": "a lighthouse",
        "width": 640,
        "seed": built.input["seed"],
        "sampler": "euler",
        "scheduler": "karras",
        "checkpoint": "photo.safetensors",
    }
    assert built.graph == {
        "1": {
            "inputs": {"ckpt_name": "photo.safetensors"},
            "class_type": "CheckpointLoaderSimple",
        },
        "2": {
            "inputs": {
                "seed": built.input["seed"],
                "sampler_name": "euler",
                "text": "a lighthouse",
                "model": ["1", 0],
            },
            "class_type": "KSampler",
        },
    }


async def test_a_seed_is_drawn_for_each_call_and_is_no_fixed_default(folder: Folder) -> None:
    endpoint = await folder.load(TYPESCRIPT, "file.ts")
    seeds = {(await endpoint.build({"prompt": "x"})).input["seed"] for _ in range(3)}
    assert len(seeds) == 3
    assert endpoint.description.schema["properties"]["seed"] == {"type": "integer"}


async def test_the_example_is_one_that_zod_takes(folder: Folder) -> None:
    endpoint = await folder.load(TYPESCRIPT, "file.ts")
    assert endpoint.description.example == {
        "prompt": "a lighthouse at dusk",
        "width": 512,
        "sampler": "euler",
        "scheduler": "karras",
        "checkpoint": "photo.safetensors",
    }
    assert (await endpoint.build(endpoint.description.example)).graph
    picky = await folder.load(script("text: z.string().refine((text) => text === 'x')"))
    assert picky.description.example is None
    image = await folder.load(script("image: z.string().url()"))
    assert image.description.example is not None
    assert image.description.example["image"].endswith(".png")


async def test_the_schema_is_that_of_zod(folder: Folder) -> None:
    schema = (await folder.load(TYPESCRIPT, "file.ts")).description.schema
    assert schema == {
        "type": "object",
        "properties": {
            "prompt": {"type": "string", "description": "What the image shows"},
            "width": {"type": "integer", "minimum": 256, "maximum": 2048, "default": 512},
            "seed": {"type": "integer"},
            "sampler": {"type": "string", "enum": ["euler", "heun"], "default": "euler"},
            "scheduler": {"type": "string", "enum": ["normal", "karras"], "default": "karras"},
            "checkpoint": {"type": "string", "default": "photo.safetensors"},
        },
        "required": ["prompt"],
    }


@pytest.mark.parametrize(
    ("given", "location", "message"),
    [
        ({}, "input.prompt", "Required"),
        ({"prompt": 3}, "input.prompt", "Expected string, received number"),
        ({"prompt": "x", "width": 100}, "input.width", "greater than or equal to 256"),
        ({"prompt": "x", "width": 512.5}, "input.width", "Expected integer"),
        ({"prompt": "x", "width": None}, "input.width", "received null"),
        ({"prompt": "x", "sampler": "none"}, "input.sampler", "Expected 'euler' | 'heun'"),
        ({"prompt": "x", "checkpoint": "y"}, "input.checkpoint", "There is no such checkpoint"),
    ],
)
async def test_a_wrong_value_is_refused_with_zods_message(
    folder: Folder, given: Mapping[str, Any], location: str, message: str
) -> None:
    endpoint = await folder.load(TYPESCRIPT, "file.ts")
    with pytest.raises(RequestError) as error:
        await endpoint.build(given)
    assert error.value.status == 400
    assert error.value.location == location
    assert message in error.value.message
    assert location.removeprefix("input.") in error.value.message


async def test_every_wrong_value_is_named_with_its_whole_path(folder: Folder) -> None:
    field = "loras: z.array(z.object({ name: z.string(), weight: z.number() }))"
    endpoint = await folder.load(script(field))
    with pytest.raises(RequestError) as error:
        await endpoint.build({"loras": [{"name": "x", "weight": 1}, {"name": 1, "weight": "y"}]})
    assert [e["location"] for e in error.value.details["errors"]] == [
        "input.loras.1.name",
        "input.loras.1.weight",
    ]


@pytest.mark.parametrize(
    ("zod", "schema", "good", "bad"),
    [
        ("z.string().min(2).max(4)", {"type": "string", "minLength": 2, "maxLength": 4}, "ab", "a"),
        ("z.string().url()", {"type": "string", "format": "uri"}, "https://a.example/", "a"),
        ("z.boolean()", {"type": "boolean"}, True, "true"),
        ("z.number().gt(0).lt(1)", {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5, 1),
        ("z.number().multipleOf(8)", {"type": "number", "multipleOf": 8}, 16, 12),
        ("z.literal('a')", {"type": "string", "const": "a"}, "a", "b"),
        ("z.enum(['a', 'b'])", {"type": "string", "enum": ["a", "b"]}, "b", "c"),
        ("z.string().nullable()", {"type": ["string", "null"]}, None, 1),
        ("z.array(z.number()).max(1)", {"type": "array", "items": {"type": "number"}, "maxItems": 1}, [1], [1, 2]),
        (
            "z.tuple([z.string(), z.number()])",
            {"type": "array", "minItems": 2, "maxItems": 2, "prefixItems": [{"type": "string"}, {"type": "number"}]},
            ["a", 1],
            [1, "a"],
        ),
        ("z.record(z.number())", {"type": "object", "additionalProperties": {"type": "number"}}, {"a": 1}, {"a": "b"}),
        ("z.union([z.string(), z.number()])", {"type": ["string", "number"]}, 1, True),
        (
            "z.object({ default: z.string(), items: z.string().default('x') }).strict()",
            {
                "type": "object",
                "properties": {"default": {"type": "string"}, "items": {"type": "string", "default": "x"}},
                "required": ["default"],
                "additionalProperties": False,
            },
            {"default": "a", "items": "b"},
            {"default": "a", "items": "b", "more": 1},
        ),
        ("z.string().default('x').refine((v) => v !== 'y')", {"type": "string", "default": "x"}, "z", "y"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("z.") else "",
)  # fmt: skip
async def test_what_zod_says_is_said_in_the_schema_and_holds(
    folder: Folder, zod: str, schema: object, good: object, bad: object
) -> None:
    endpoint = await folder.load(script(f"value: {zod}", "return graph(input.value);"))
    assert endpoint.description.schema["properties"]["value"] == schema
    assert await value_of(endpoint, value=good) == good
    with pytest.raises(RequestError) as error:
        await endpoint.build({"value": bad})
    assert str(error.value.location).startswith("input.value")


async def test_what_zod_makes_of_a_value_is_used_and_reported(folder: Folder) -> None:
    fields = """
      size: z.preprocess((v) => Number(v), z.number()),
      text: z.string().trim().transform((v) => v.toUpperCase()),
      later: z.string().refine(async (v) => v !== "no", "Not now").optional(),
    """
    endpoint = await folder.load(script(fields, "return graph([input.size, input.text]);"))
    built = await endpoint.build({"size": "12", "text": " abc ", "unknown": 1})
    assert built.input == {"size": 12, "text": "ABC"}
    assert built.graph["1"]["inputs"]["value"] == [12, "ABC"]
    with pytest.raises(RequestError, match="later: Not now"):
        await endpoint.build({"size": 1, "text": "x", "later": "no"})


async def test_a_schema_may_be_refined_as_a_whole(folder: Folder) -> None:
    text = script().replace(
        "z.object({ text: z.string() })",
        "z.object({ text: z.string() }).refine((v) => v.text !== 'x', { message: 'No x', path: ['text'] })",
    )
    endpoint = await folder.load(text)
    assert endpoint.description.schema["required"] == ["text"]
    with pytest.raises(RequestError, match="text: No x"):
        await endpoint.build({"text": "x"})


async def test_what_is_reported_is_what_was_given_even_if_the_file_changes_it(
    folder: Folder,
) -> None:
    endpoint = await folder.load(script(body="input.text += '!'; return graph(input.text);"))
    built = await endpoint.build({"text": "hello"})
    assert built.input == {"text": "hello"}
    assert built.graph["1"]["inputs"]["value"] == "hello!"


WORKFLOW = """{
  RequestSchema: z.object({ text: z.string() }),
  generateWorkflow: (input) => ({ "1": { inputs: { value: input.text }, class_type: "Note" } }),
}"""


@pytest.mark.parametrize(
    "text",
    [
        f'import {{ z }} from "zod";\nexport default {WORKFLOW};',
        f'const {{ z }} = require("zod");\nmodule.exports = {WORKFLOW};',
        f'"use strict";\nexports.__esModule = true;\nvar {{ z }} = require("zod");\nexports.default = {WORKFLOW};',
        f'const {{ z }} = require("zod");\nconst made = {WORKFLOW};\nmade;',
        f'const {{ z }} = require("zod");\nObject.assign(exports, {WORKFLOW});',
        f'#!/usr/bin/env node\nconst {{ z }} = require("zod");\nmodule.exports.default = {WORKFLOW};',
    ],
    ids=["export default", "module.exports", "transpiled", "an expression", "named", "shebang"],
)
async def test_a_workflow_is_found_however_it_is_exported(folder: Folder, text: str) -> None:
    assert await value_of(await folder.load(text), text="hello") == "hello"


async def test_neighbours_and_nodes_own_modules_are_imported(folder: Folder) -> None:
    folder.write(
        "parts/shared.ts", 'import path from "node:path";\nexport const join: any = path.join;'
    )
    folder.write("parts/words.json", '{"first": "one"}')
    folder.write(
        "parts/more.js", 'module.exports = { second: require("./words.json").first + "!" };'
    )
    top = """
    import * as fs from "fs";
    import { join } from "./parts/shared";
    import words from "./parts/words.json";
    import { second } from "./parts/more.js";
    """
    body = "return graph([join('a', 'b'), words.first, second, typeof fs.readFileSync]);"
    endpoint = await folder.load(script(body=body, top=top))
    assert await value_of(endpoint, text="") == [str(Path("a", "b")), "one", "one!", "function"]
    assert isinstance(endpoint, HasNeighbours)
    assert {path.name for path in endpoint.neighbours} == {"shared.ts", "words.json", "more.js"}


async def test_packages_beside_the_files_are_imported(folder: Folder) -> None:
    folder.write("node_modules/greeting/index.js", "module.exports = 'hello';")
    endpoint = await folder.load(
        script(body="return graph(greeting);", top='import greeting from "greeting";')
    )
    assert await value_of(endpoint, text="") == "hello"


async def test_the_originals_types_have_their_values(folder: Folder) -> None:
    top = 'import { ComfyNodeSchema, isWorkflow } from "../types";'
    body = "return graph([ComfyNodeSchema.safeParse({ class_type: 1 }).success, isWorkflow({})]);"
    endpoint = await folder.load(script(body=body, top=top), "deep/file.js")
    assert await value_of(endpoint, text="") == [False, False]


async def test_the_config_knows_comfyui_but_no_secret(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_s3cret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws_s3cret")
    monkeypatch.setenv("API_KEYS", "one,two")
    monkeypatch.setenv("HTTP_PROXY", "http://user:proxy_s3cret@proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "localhost")
    monkeypatch.setenv("MY_OWN", "mine")
    monkeypatch.setenv("COMFY_HOME", "/of/the/launcher")
    js = JavaScript(tmp_path, packages(), variables={"COMFY_HOME": "/srv/ComfyUI"})
    top = 'import config from "../config";'
    body = """return graph({
      env: JSON.stringify(process.env), own: process.env.MY_OWN, proxy: process.env.NO_PROXY,
      dir: config.comfyDir, models: config.models.checkpoints.dir, all: config.models.loras.all,
    });"""
    try:
        path = folder.write("file.js", script(body=body, top=top))
        seen = await value_of(await js.load(path, SURROUNDINGS), text="")
    finally:
        await js.close()
    assert "s3cret" not in seen["env"]
    assert "API_KEYS" not in seen["env"]
    assert (seen["own"], seen["proxy"]) == ("mine", "localhost")
    assert seen["dir"] == "/srv/ComfyUI"
    assert seen["models"] == "/srv/ComfyUI/models/checkpoints"
    assert seen["all"] == []


@pytest.mark.parametrize(
    ("name", "text", "reason", "line"),
    [
        ("a.ts", "import { z } from 'zod';\nconst x: = 3;\n", "Type expected", 2),
        ("a.js", "const a = 1;\n\nconst = 2;\n", "SyntaxError: Unexpected token", 3),
        ("a.js", "export default {\n", "'}' expected", 2),
        ("a.ts", "type A = string;\ntype B = A;\n\nthrow new Error('not today');\n", "Error: not today", 4),
        ("a.js", "\nnothing.at.all;\n", "ReferenceError: nothing is not defined", 2),
        ("a.js", "throw 'a text';\n", "a text was thrown", None),
        ("a.js", script(top="import x from 'no-such-package';"), "Error: cannot import no-such-package: there are zod", 2),
        ("a.js", script(top="import x from './nothing';"), "Error: cannot import ./nothing: there are zod", 2),
        ("a.js", "import c from '../config';\nc.models.nothing.enum;", "Cannot read properties of undefined", 2),
        ("a.js", "const a = 1;\n", "it exports no workflow", None),
        ("a.js", "", "it exports no workflow", None),
        ("a.js", "module.exports = { RequestSchema: {}, generateWorkflow() {} };", "RequestSchema is no zod schema", None),
        (
            "a.js",
            "const { z } = require('zod/v4');\nmodule.exports = { RequestSchema: z.object({}), generateWorkflow() {} };",
            "RequestSchema is not of zod 3",
            None,
        ),
        (
            "a.js",
            "const { z } = require('zod');\nmodule.exports = { RequestSchema: z.object({}), generateWorkflow: 3 };",
            "generateWorkflow is no function",
            None,
        ),
        ("a.js", "process.exit(7);", r"it called process.exit\(7\)", None),
        ("a.js", "for (;;);", f"it took longer than {LIMIT_S} s", None),
    ],
)  # fmt: skip
async def test_a_broken_file_is_named_with_the_line_and_the_reason(
    folder: Folder, name: str, text: str, reason: str, line: int | None
) -> None:
    with pytest.raises(WorkflowFileError, match=reason) as error:
        await folder.load(text, name)
    assert error.value.file == folder.folder / name
    assert error.value.line == line
    assert await value_of(await folder.load(script()), text="others load") == "others load"


async def test_a_broken_neighbour_is_named(folder: Folder) -> None:
    folder.write("part.ts", "const a: string = 'x';\nconst = 3;")
    with pytest.raises(WorkflowFileError, match=r"part\.ts, line 2: Variable declaration expected"):
        await folder.load(script(top="import './part';"))


async def test_a_file_that_is_gone_is_named(folder: Folder) -> None:
    with pytest.raises(WorkflowFileError, match="no such file"):
        await folder.javascript.load(folder.folder / "gone.js", SURROUNDINGS)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("throw new TypeError('not so');", "TypeError: not so."),
        ("await null;\nthrow new Error('later');", "Error: later."),
        ("return await Promise.reject('why not');", "why not was thrown."),
        ("return undefined;", "generateWorkflow returned no graph but nothing."),
        ("return [];", "generateWorkflow returned no graph but []."),
        ("return {};", "generateWorkflow returned no graph but {}."),
        ("return { a: { inputs: {} } };", "generateWorkflow returned a node a without class_type"),
        ("const g = graph(1); g['1'].inputs.g = g; return g;", "circular structure"),
        ("process.exit(3);", "it called process.exit(3)."),
        ("setTimeout(() => { throw new Error('too late'); }); await new Promise(() => {});", "Error: too late."),
        ("Promise.reject(new Error('unheard')); await new Promise(() => {});", "Error: unheard."),
        ("await new Promise(() => {});", f"it took longer than {LIMIT_S} s."),
        ("for (;;);", f"it took longer than {LIMIT_S} s."),
    ],
    ids=range(13),
)  # fmt: skip
async def test_code_that_fails_answers_500_and_works_again(
    folder: Folder, body: str, reason: str
) -> None:
    body = f"if (input.text !== 'bad') return graph(input.text);\n{body}"
    endpoint = await folder.load(script(body=body), "mine.js")
    with pytest.raises(WorkflowFailed) as error:
        await endpoint.build({"text": "bad"})
    assert error.value.status == 500
    assert error.value.message.startswith("mine.js")
    assert reason in error.value.message
    assert await value_of(endpoint, text="good") == "good"


async def test_the_log_has_the_line_that_failed(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    text = "interface A {\n  a: string;\n}\n" + script(
        body="const a: number = 1;\nfail(a);"
    ).replace(
        "const graph", "function fail(a: any) {\n  throw new Error(`no ${a}`);\n}\nconst graph"
    )
    endpoint = await folder.load(text, "mine.ts")
    with pytest.raises(WorkflowFailed) as error:
        await endpoint.build({"text": ""})
    [record] = [r for r in caplog.records if r.levelno == logging.WARNING]
    line = 1 + text.splitlines().index("  throw new Error(`no ${a}`);")
    assert f"{endpoint.source}:{line}" in record.getMessage()
    assert error.value.message == f"mine.ts, line {line}: Error: no 1."
    assert str(Path("node") / "room.js") not in record.getMessage()


async def test_an_endless_loop_delays_no_other_file(folder: Folder) -> None:
    endless = await folder.load(script(body="for (;;);"), "endless.js")
    other = await folder.load(script(), "other.js")
    stuck = asyncio.create_task(endless.build({"text": ""}))
    await asyncio.sleep(0)
    for number in range(20):
        assert await value_of(other, text=str(number)) == str(number)
    assert not stuck.done()
    with pytest.raises(WorkflowFailed, match="took longer"):
        await stuck


async def test_a_call_that_another_ones_end_hits_is_made_again(folder: Folder) -> None:
    # The first to ask never ends; the second would wait for it, and is alone when it comes again.
    top = "let calls = 0;"
    body = "if (calls++ === 0 && input.text === 'slow') await new Promise(() => {});\nif (calls > 1) await new Promise(() => {});\nreturn graph(input.text);"
    endpoint = await folder.load(script(body=body, top=top))
    slow = asyncio.create_task(endpoint.build({"text": "slow"}))
    await asyncio.sleep(LIMIT_S / 4)
    assert await value_of(endpoint, text="fast") == "fast"
    with pytest.raises(WorkflowFailed, match="took longer"):
        await slow


async def test_calls_of_one_file_run_side_by_side(folder: Folder) -> None:
    top = "const waiting = [];"
    body = """
      if (waiting.length < 4) await new Promise((go) => waiting.push(go));
      else waiting.forEach((go) => go());
      return graph(input.text);
    """
    endpoint = await folder.load(script(body=body, top=top))
    texts = ["a", "b", "c", "d", "e"]
    assert await asyncio.gather(*(value_of(endpoint, text=text) for text in texts)) == texts


async def test_more_files_than_are_kept_running_all_answer(folder: Folder) -> None:
    text = script(body="return graph(input.text + __filename);")
    names = [f"file{number}.js" for number in range(12)]
    endpoints = await asyncio.gather(*(folder.load(text, name) for name in names))
    for _ in range(2):
        values = await asyncio.gather(*(value_of(endpoint, text=">") for endpoint in endpoints))
        assert values == [f">{folder.folder / name}" for name in names]


async def test_an_endpoint_stays_what_it_was_when_its_file_changes(folder: Folder) -> None:
    folder.write("part.js", "module.exports = 1;")
    old = await folder.load(script(body="return graph(part);", top="import part from './part';"))
    folder.write("part.js", "module.exports = 2;")
    new = await folder.load(script(body="return graph(part);", top="import part from './part';"))
    with pytest.raises(WorkflowFileError):
        await folder.load("broken(")
    await folder.javascript.close()
    assert await value_of(old, text="") == 1
    assert await value_of(new, text="") == 2


async def test_an_endpoint_is_renewed_when_the_lists_change(folder: Folder) -> None:
    field = "checkpoint: config.models.checkpoints.enum"
    text = script(field, "return graph(input.checkpoint);", "import config from '../config';")
    old = await folder.load(text)
    folder.write("file.js", "changed(")
    assert isinstance(old, Renewable)
    models = {"checkpoints": ["new.safetensors"]}
    new = await old.renewed(type(SURROUNDINGS)(models=models))
    assert new.description.schema["properties"]["checkpoint"]["enum"] == models["checkpoints"]
    assert await value_of(new, checkpoint="new.safetensors") == "new.safetensors"
    with pytest.raises(RequestError):
        await old.build({"checkpoint": "new.safetensors"})
    with pytest.raises(WorkflowFileError, match="Cannot read properties of undefined"):
        await old.renewed(type(SURROUNDINGS)())


async def test_large_and_odd_texts_come_through_whole(folder: Folder) -> None:
    endpoint = await folder.load(script())
    odd = 'line\nbreak "quote" \u2028 \U0001f600 \\'
    for text in ("x" * 5_000_000, "é\U0001f600" * 100_000, odd, odd * 10_000, "\x00\x1f", ""):
        built = await endpoint.build({"text": text})
        assert built.input == {"text": text}
        assert built.graph["1"]["inputs"]["value"] == text


async def test_large_texts_of_many_calls_are_not_mixed(folder: Folder) -> None:
    fields = "texts: z.array(z.string()), more: z.object({}).passthrough()"
    body = "return graph([...input.texts.reverse(), input.texts.join('!'), input.more]);"
    endpoint = await folder.load(script(fields, body))

    async def one(number: int) -> None:
        texts = [str(number) * 100_000, "short", f"é{number}" * 50_000]
        built = await endpoint.build({"texts": texts, "more": {"deep": [texts]}})
        assert built.input == {"texts": texts, "more": {"deep": [texts]}}
        back = list(reversed(texts))
        assert built.graph["1"]["inputs"]["value"] == [*back, "!".join(back), {"deep": [texts]}]

    await asyncio.gather(*(one(number) for number in range(8)))


async def test_what_a_file_prints_is_logged_with_its_name(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "comfyui_stateless.workflows")
    body = "console.log('{\"id\": 1}'); console.error('an error'); return graph(input.text);"
    endpoint = await folder.load(script(body=body), "mine.js")
    assert await value_of(endpoint, text="x") == "x"
    wanted = {f"{endpoint.source}: {line}" for line in ('{"id": 1}', "an error")}
    for _ in range(200):
        if wanted <= {record.getMessage() for record in caplog.records}:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"not logged: {caplog.text}")


async def test_a_killed_node_is_started_again_and_calls_are_made_again(folder: Folder) -> None:
    body = """
      if (input.text === "kill" && !fs.existsSync(__dirname + "/killed")) {
        fs.writeFileSync(__dirname + "/killed", "");
        process.kill(process.pid, "SIGKILL");
      }
      return graph(process.pid);
    """
    endpoint = await folder.load(script(body=body, top="import fs from 'fs';"))
    before = await value_of(endpoint, text="")
    after = await value_of(endpoint, text="kill")
    assert before != after
    assert await value_of(endpoint, text="") == after


async def test_a_file_that_kills_node_each_time_answers_500(folder: Folder) -> None:
    endpoint = await folder.load(script(body="process.kill(process.pid, 'SIGKILL');"), "mine.js")
    with pytest.raises(StatelessError) as error:
        await endpoint.build({"text": ""})
    assert error.value.message == "mine.js: Node.js has ended."
    assert error.value.status == 500


LOADS_AND_WAITS = """
import asyncio, sys
from pathlib import Path
from comfyui_stateless.workflows.base import Surroundings
from comfyui_stateless.workflows.javascript import JavaScript

async def main(file, packages):
    endpoint = await JavaScript(Path("unused"), Path(packages)).load(Path(file), Surroundings())
    built = await endpoint.build({"text": ""})
    stuck = asyncio.create_task(endpoint.build({"text": "x"}))
    print(built.graph["1"]["inputs"]["value"], flush=True)
    await stuck

asyncio.run(main(*sys.argv[1:]))
"""


async def test_node_ends_with_us_even_in_an_endless_loop(folder: Folder) -> None:
    body = "if (input.text) for (;;); return graph(process.pid);"
    path = folder.write("file.js", script(body=body))
    ours = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LOADS_AND_WAITS, str(path), str(packages())),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
    )
    assert ours.stdout is not None
    node = int(await ours.stdout.readline())
    os.kill(node, 0)
    ours.kill()
    await ours.communicate()
    for _ in range(500):
        try:
            os.kill(node, 0)
        except ProcessLookupError:
            return
        await asyncio.sleep(0.02)
    pytest.fail("Node.js goes on")
