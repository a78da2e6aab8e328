"""Endpoints in Python, loaded beside everything else in the process."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from comfyui_stateless.errors import RequestError, WorkflowFailed
from comfyui_stateless.workflows import python
from comfyui_stateless.workflows.base import WorkflowFileError
from comfyui_stateless.workflows.python import PythonEndpoint, load
from tests.fakes import eventually
from tests.workflows.definitions import SURROUNDINGS, surroundings

HEAD = """\
from enum import Enum
from pydantic import BaseModel, Field
from comfyui_stateless.workflows import (
    Checkpoint, Image, Model, Sampler, Scheduler, Seed, WrongInput, models, samplers, schedulers,
    warmup_checkpoint,
)
class RequestSchema(BaseModel):
    prompt: str = Field(max_length=20)
    width: int = Field(512, ge=16, le=2048)
    cfg: float = 8
    is_wide: bool = False
    seed: Seed
    sampler: Sampler = samplers[0]
    scheduler: Scheduler = "karras"
    checkpoint: Checkpoint = warmup_checkpoint
    lora: Model["loras"] | None = None
    image: Image | None = None
"""

BODY = """\
def generate_workflow(input):
    return {"1": {"class_type": "X", "inputs": input.model_dump()}}
"""


async def endpoint(
    tmp_path: Path, source: str = HEAD + BODY, limit_s: float = 10
) -> PythonEndpoint:
    file = tmp_path / "file.py"
    file.write_text(dedent(source))
    return await load(file, SURROUNDINGS, limit_s)


async def test_the_graph_is_what_the_function_makes_of_the_validated_input(tmp_path: Path) -> None:
    file = await endpoint(tmp_path)
    made = await file.build({"prompt": "a cat", "lora": "s3://bucket/x.safetensors"})
    inputs = made.graph["1"]["inputs"]
    assert inputs == made.input
    seed = inputs.pop("seed")
    assert 0 <= seed < 2**53
    assert inputs == {
        "prompt": "a cat", "width": 512, "cfg": 8, "is_wide": False, "sampler": "euler",
        "scheduler": "karras", "checkpoint": "sd.safetensors", "lora": "s3://bucket/x.safetensors",
        "image": None,
    }  # fmt: skip


async def test_a_seed_is_drawn_anew_unless_given(tmp_path: Path) -> None:
    file = await endpoint(tmp_path)
    drawn = {(await file.build({"prompt": ""})).input["seed"] for _ in range(10)}
    assert len(drawn) == 10
    assert (await file.build({"prompt": "", "seed": 5})).input["seed"] == 5


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("prompt", 5, "valid string"),
        ("prompt", None, "valid string"),
        ("prompt", "x" * 21, "at most 20"),
        ("width", "512", "valid integer"),
        ("width", 64.0, "valid integer"),
        ("width", 8, "greater than or equal to 16"),
        ("cfg", "8", "valid number"),
        ("is_wide", 0, "valid boolean"),
        ("seed", -1, "greater than or equal to 0"),
        ("sampler", "eulr", "one of euler, dpmpp_2m"),
        ("scheduler", None, "valid string"),
        ("checkpoint", "x", "a URL, or one of sd.safetensors"),
        ("lora", "c.safetensors", "a URL, or one of a.safetensors, b.safetensors"),
        ("image", " ", "is empty"),
        ("other", 1, "no input other; it has cfg, checkpoint"),
    ],
)
async def test_a_wrong_value_is_refused(tmp_path: Path, name: str, value: Any, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        await (await endpoint(tmp_path)).build({"prompt": "x", name: value})
    assert said in caught.value.message
    assert str(caught.value.location).startswith(f"input.{name}")


async def test_the_schema_shows_the_lists_of_now(tmp_path: Path) -> None:
    file = await endpoint(tmp_path)
    members = file.description.schema["properties"]
    assert members["sampler"]["enum"] == ["euler", "dpmpp_2m"]
    assert members["checkpoint"]["anyOf"][0] == {"enum": ["sd.safetensors"]}
    later = await file.renewed(surroundings(samplers=["euler", "new"]))
    assert later.description.schema["properties"]["sampler"]["enum"] == ["euler", "new"]
    assert (await later.build({"prompt": "", "sampler": "new"})).input["sampler"] == "new"
    with pytest.raises(RequestError):
        await file.build({"prompt": "", "sampler": "new"})


async def test_an_async_function_is_awaited(tmp_path: Path) -> None:
    source = HEAD + "import asyncio\nasync def generate_workflow(input):\n"
    source += "    await asyncio.sleep(0)\n    return {'1': {'class_type': 'X', 'inputs': {}}}\n"
    assert (await (await endpoint(tmp_path, source)).build({"prompt": ""})).graph["1"]


async def test_a_function_may_refuse_its_input_itself(tmp_path: Path) -> None:
    source = HEAD + "def generate_workflow(input):\n    raise WrongInput('Too dark.', 'prompt')\n"
    with pytest.raises(RequestError, match="Too dark") as caught:
        await (await endpoint(tmp_path, source)).build({"prompt": ""})
    assert (caught.value.status, caught.value.location) == (400, "input.prompt")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise KeyError('x')", "file.py, line 19: KeyError: 'x'"),
        ("raise TimeoutError('of mine')", "TimeoutError: of mine"),
        ("raise SystemExit(3)", "sys.exit(3)"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise StopIteration", "StopIteration"),
        ("return None", "returned NoneType, not a graph"),
        ("return {}", "not a graph"),
        ("return {'1': {'class_type': 'X'}}", "the graph is wrong: 1.inputs"),
        ("return {'1': {'class_type': 'X', 'inputs': {'a': {1, 2}}}}", "not JSON"),
        ("return {'1': {'class_type': 'X', 'inputs': {'a': float('nan')}}}", "not JSON"),
        ("a = {}\n    a['a'] = a\n    return a", "not JSON"),
    ],
)
@pytest.mark.parametrize("keyword", ["def", "async def"])
async def test_a_function_that_fails_is_named(
    tmp_path: Path, body: str, said: str, keyword: str
) -> None:
    source = f"{HEAD}{keyword} generate_workflow(input):\n    {body}\n"
    with pytest.raises(WorkflowFailed) as caught:
        await (await endpoint(tmp_path, source)).build({"prompt": ""})
    assert said in caught.value.message
    assert "file.py" in caught.value.message
    assert caught.value.status == 500


@pytest.mark.parametrize(
    "body",
    [
        "def generate_workflow(input):\n    import threading\n    threading.Event().wait(30)\n",
        "async def generate_workflow(input):\n    import asyncio\n    await asyncio.sleep(30)\n",
    ],
)
async def test_a_function_that_takes_too_long_is_given_up(tmp_path: Path, body: str) -> None:
    file = await endpoint(tmp_path, HEAD + body, limit_s=0.2)
    with pytest.raises(WorkflowFailed, match=r"longer than 0\.2 seconds"):
        await file.build({"prompt": ""})


@pytest.mark.parametrize(
    ("source", "line", "said"),
    [
        ("a = 1\ndef x(:\n", 2, "invalid syntax"),
        ("\nimport nowhere_to_be_found\n", 2, "No module named 'nowhere_to_be_found'"),
        ("\n\nimport sys\nsys.exit('bye')\n", 4, "sys.exit('bye')"),
        ("a = 1\nb = a / 0\n", 2, "ZeroDivisionError"),
        ("a = 1\n", None, "no RequestSchema"),
        ("a = 1\nRequestSchema = dict\n", 2, "subclass of pydantic.BaseModel"),
        (HEAD, None, "no function generate_workflow"),
        (HEAD + "generate_workflow = 3\n", 18, "must be a function"),
        (HEAD + "def generate_workflow():\n    pass\n", 18, "must take one argument"),
        (HEAD + BODY + "summary = 3\n", 20, "summary must be a string"),
        (HEAD + "x = models['nothing']\n", 18, "no model folder nothing; it has loras"),
        ("raise StopIteration", 1, "StopIteration"),
    ],
)
async def test_a_broken_file_is_reported_with_its_line(
    tmp_path: Path, source: str, line: int | None, said: str
) -> None:
    with pytest.raises(WorkflowFileError) as caught:
        await endpoint(tmp_path, source)
    assert said in caught.value.reason
    assert (caught.value.file, caught.value.line) == (tmp_path / "file.py", line)


async def test_a_file_that_loads_for_ever_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(python, "LOAD_LIMIT_S", 0.2)
    with pytest.raises(WorkflowFileError, match=r"longer than 0\.2 s"):
        await endpoint(tmp_path, "import threading\nthreading.Event().wait(30)\n")


@pytest.mark.parametrize("statement", ["from nodes import size", "from .nodes import size"])
async def test_files_of_one_name_do_not_meet(tmp_path: Path, statement: str) -> None:
    files = []
    for number in (1, 2):
        folder = tmp_path / f"sd1.{number}"
        folder.mkdir()
        (folder / "nodes.py").write_text(f"import helper\nsize = helper.one * {number}\n")
        (folder / "helper.py").write_text("one = 1\n")
        body = "def generate_workflow(input):\n    import helper\n"
        body += "    return {'1': {'class_type': 'X', 'inputs': {'size': size + helper.one}}}\n"
        (folder / "file.py").write_text(f"{statement}\n{HEAD}{body}")
        files.append(await load(folder / "file.py", SURROUNDINGS))
    made = [(await file.build({"prompt": ""})).graph["1"]["inputs"]["size"] for file in files]
    assert made == [2, 3]
    assert "helper" not in sys.modules
    assert sorted(path.name for path in files[0].neighbours) == ["helper.py", "nodes.py"]


async def test_nothing_is_written_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "_helper.py").write_text("a = 1\n")
    await endpoint(tmp_path, "import _helper\n" + HEAD + BODY)
    assert sorted(os.listdir(tmp_path)) == ["_helper.py", "file.py"]  # noqa: PTH208


async def test_the_modules_of_a_file_go_with_it(tmp_path: Path) -> None:
    file = await endpoint(tmp_path)
    loaded = [name for name in sys.modules if name.startswith("stateless_workflow_")]
    mine = [n for n in loaded if getattr(sys.modules[n], "__file__", "") == str(file.source)]
    assert len(mine) == 1
    del file

    def is_gone() -> bool:
        gc.collect()
        return mine[0] not in sys.modules

    await eventually(is_gone)  # the thread that loaded it lets go of it a moment later


async def test_the_example_is_taken(tmp_path: Path) -> None:
    file = await endpoint(tmp_path)
    assert file.description.example is not None
    assert (await file.build(file.description.example)).graph


async def test_enums_and_own_settings_of_the_schema_hold(tmp_path: Path) -> None:
    source = """\
    from enum import Enum
    from pydantic import BaseModel, ConfigDict
    class Style(Enum):
        OIL = "oil"
    class RequestSchema(BaseModel):
        model_config = ConfigDict(extra="ignore", strict=False)
        style: Style
        count: int = 1
    def generate_workflow(input):
        return {"1": {"class_type": input.style.name, "inputs": {"count": input.count}}}
    """
    made = await (await endpoint(tmp_path, source)).build({"style": "oil", "count": "3", "x": 1})
    assert made.graph["1"] == {"class_type": "OIL", "inputs": {"count": 3}}
    assert made.input == {"style": "oil", "count": 3}
