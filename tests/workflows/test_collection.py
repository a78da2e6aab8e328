"""A folder of workflow files that are loaded, changed, broken and removed."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.engine import ModelInput
from comfyui_stateless.errors import NotFound, RequestError, WorkflowFailed
from comfyui_stateless.workflows.collection import Workflows
from comfyui_stateless.workflows.loaders import Loaders
from tests.fakes import FakeEngine
from tests.workflows.definitions import DEFINITIONS, FILES, MODELS, graph, small_graph, write

PYTHON = """\
from pydantic import BaseModel
class RequestSchema(BaseModel):
    text: str = "{text}"
def generate_workflow(input):
    return {{"1": {{"class_type": "X", "inputs": {{"text": input.text}}}}}}
"""

Open = Callable[..., Workflows]


def engine(**options: Any) -> FakeEngine:
    definitions = json.loads(json.dumps(DEFINITIONS))
    known = {"definitions": definitions, "file_inputs": FILES, "model_files": MODELS, **options}
    return FakeEngine(**known)


@pytest.fixture
async def open_folder(tmp_path: Path) -> AsyncIterator[Open]:
    """Open the folder ``workflows``; every look at it is a new one."""
    opened: list[Workflows] = []

    def opening(
        used: FakeEngine | None = None, *, is_expected: bool = True, rescan_s: float = 0.0
    ) -> Workflows:
        folder = tmp_path / "workflows"
        loaders = Loaders(tmp_path / "cache")
        workflows = Workflows(
            used or engine(), folder, loaders, is_expected=is_expected, rescan_s=rescan_s
        )
        opened.append(workflows)
        return workflows

    yield opening
    for workflows in opened:
        await workflows.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "workflows").mkdir()
    return tmp_path / "workflows"


def rewrite(file: Path, text: str) -> None:
    """Write a file anew, as editors do: within a tick of the clock, its time may be the same."""
    part = file.with_name(f".{file.name}.part")
    part.write_text(text)
    part.replace(file)


async def errors(workflows: Workflows) -> list[str]:
    return [workflows.said(error) for error in (await workflows.edition()).errors]


async def test_fifty_files_of_which_three_are_broken(folder: Path, open_folder: Open) -> None:
    for number in range(24):
        write(folder, f"graphs/{number}", small_graph())
    for number in range(23):
        (folder / f"python-{number}.py").write_text(PYTHON.format(text=number))
    (folder / "one.py").write_text("a = 1\nb = (\n")
    (folder / "two.json").write_text('{\n"1": 3}')
    write(folder, "three", small_graph(), "inputs:\n  x:\n    node: 88\n    input: a\n")
    workflows = open_folder()
    edition = await workflows.edition()
    good = [path for path, entry in edition.entries.items() if entry.error is None]
    assert len(good) == 47
    assert await errors(workflows) == [
        "one.py, line 2: '(' was never closed",
        "three.yaml, line 3: inputs.x.node: the graph has no node 88; it has 1, 2",
        "two.json, line 2: node 1: A node must be an object.",
    ]
    for path in good:
        assert (await workflows.build(path, {})).graph


async def test_paths_are_the_files_below_the_folder_without_extension(
    folder: Path, open_folder: Open
) -> None:
    for path in ("a", "sd1.5/b c", "deep/er/ü", "A"):
        write(folder, path, small_graph())
    for path in (".hidden", "_helper", "node_modules/x", "__pycache__/y", "_lib/z", ".git/w"):
        write(folder, path, {"not": "a graph"})
    (folder / "package.json").write_text("{}")
    (folder / "README.md").write_text("# read")
    workflows = open_folder()
    assert set((await workflows.edition()).entries) == {"a", "sd1.5/b c", "deep/er/ü", "A"}
    assert await errors(workflows) == []


async def test_links_that_lead_round_end(folder: Path, open_folder: Open) -> None:
    write(folder, "sub/a", small_graph())
    (folder / "sub" / "round").symlink_to(folder)
    (folder / "again").symlink_to(folder / "sub")
    (folder / "nowhere.json").symlink_to(folder / "missing.json")
    found = (await open_folder().edition()).entries
    assert [path for path, entry in found.items() if entry.error is None] in (
        ["again/a"], ["sub/a"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("names", "serves", "wrong"),
    [
        (["a.py", "a.json"], "a.py", "a.json: a.py serves"),
        (["a.py", "a.js"], "a.py", "a.js: a.py serves"),
        (["a.json", "a.yaml", "a.yml"], "a.json", "a.yml: a.yaml describes"),
        (["a.py", "a.yaml"], "a.py", "a.yaml: a.py serves"),
    ],
)
async def test_files_of_one_path_are_reported(
    folder: Path, open_folder: Open, names: list[str], serves: str, wrong: str
) -> None:
    for name in names:
        text = {"py": PYTHON.format(text=1), "json": json.dumps(small_graph()), "js": "1"}
        (folder / name).write_text(text.get(name.partition(".")[2], "inputs: {}\n"))
    workflows = open_folder()
    entry = await workflows.entry("a")
    assert entry.file.name == serves
    assert entry.error is None
    (said,) = await errors(workflows)
    assert said.startswith(wrong)


async def test_a_description_without_a_graph_is_reported(folder: Path, open_folder: Open) -> None:
    (folder / "a.yaml").write_text("inputs: {}\n")
    assert await errors(open_folder()) == ["a.yaml: there is no a.json beside it"]


async def test_a_missing_folder_is_an_error_only_if_it_was_named(open_folder: Open) -> None:
    assert await errors(open_folder(is_expected=False)) == []
    (said,) = await errors(open_folder(is_expected=True))
    assert "No such file" in said


async def test_a_changed_an_added_and_a_removed_file_count_at_once(
    folder: Path, open_folder: Open
) -> None:
    file = folder / "a.py"
    rewrite(file, PYTHON.format(text="one"))
    workflows = open_folder()
    assert (await workflows.build("a", {})).input == {"text": "one"}
    rewrite(file, PYTHON.format(text="two"))
    write(folder, "b", small_graph())
    assert (await workflows.build("a", {})).input == {"text": "two"}
    assert (await workflows.build("b", {})).input == {"width": 64}
    file.unlink()
    with pytest.raises(NotFound):
        await workflows.build("a", {})


async def test_a_broken_change_keeps_the_last_good_version_and_says_so(
    folder: Path, open_folder: Open, caplog: pytest.LogCaptureFixture
) -> None:
    file = folder / "a.py"
    rewrite(file, PYTHON.format(text="one"))
    workflows = open_folder()
    await workflows.build("a", {})
    rewrite(file, "x = (\n")
    assert (await workflows.build("a", {})).input == {"text": "one"}
    assert await errors(workflows) == ["a.py, line 1: '(' was never closed"]
    assert "the last good version goes on serving" in caplog.text
    rewrite(file, PYTHON.format(text="three"))
    assert (await workflows.build("a", {})).input == {"text": "three"}
    assert await errors(workflows) == []


async def test_a_file_that_never_was_good_is_said_to_be_broken(
    folder: Path, open_folder: Open
) -> None:
    (folder / "a.py").write_text("x = (\n")
    with pytest.raises(WorkflowFailed, match=r"a\.py, line 1"):
        await open_folder().build("a", {})


@pytest.mark.parametrize("name", ["_helper.py", "helper.py"])
async def test_a_changed_neighbour_counts(folder: Path, open_folder: Open, name: str) -> None:
    helper, stem = folder / name, name.partition(".")[0]
    rewrite(helper, "text = 'one'\n")
    body = PYTHON.format(text="x").replace('"x"', f"{stem}.text")
    (folder / "a.py").write_text(f"import {stem}\n{body}")
    workflows = open_folder()
    assert (await workflows.build("a", {})).input == {"text": "one"}
    rewrite(helper, "text = (\n")
    assert (await workflows.build("a", {})).input == {"text": "one"}
    rewrite(helper, "text = 'two'\n")
    assert (await workflows.build("a", {})).input == {"text": "two"}


async def test_each_request_sees_one_version_while_a_file_is_edited(
    folder: Path, open_folder: Open
) -> None:
    workflows, file, part = open_folder(), folder / "a.json", folder / ".part"

    def edit(number: int) -> None:
        nodes = small_graph("@width")
        nodes["1"]["inputs"] |= {"width": 16 + 8 * number, "height": 16 + 8 * number}
        if number % 5 == 4:
            nodes["1"]["class_type"] = "Nothing"
        part.write_text(json.dumps(nodes))
        part.replace(file)

    edit(0)
    seen: set[int] = set()

    async def request() -> None:
        inputs = (await workflows.build("a", {})).graph["1"]["inputs"]
        assert inputs["width"] == inputs["height"]
        seen.add(inputs["width"])

    for number in range(30):
        await asyncio.gather(*[request() for _ in range(5)], asyncio.to_thread(edit, number))
    edit(30)
    await request()
    assert 16 + 8 * 30 in seen
    assert len(seen) > 5


async def test_files_are_looked_at_once_in_a_while_only(folder: Path, open_folder: Open) -> None:
    write(folder, "a", small_graph())
    workflows = open_folder(rescan_s=60)
    await workflows.build("a", {})
    os.unlink(folder / "a.json")  # noqa: PTH108
    assert (await workflows.build("a", {})).graph


async def test_comfyuis_lists_are_those_of_now(folder: Path, open_folder: Open) -> None:
    text = "inputs:\n  lora: {node: 4, input: lora_name}\n"
    write(folder, "a", graph(), text)
    used = engine()
    workflows = open_folder(used)
    with pytest.raises(RequestError):
        await workflows.build("a", {"lora": "new.safetensors"})
    used._definitions = json.loads(json.dumps(used._definitions))
    options = used._definitions["Loader"]["input"]["required"]["lora_name"][0]
    options.append("new.safetensors")
    assert (await workflows.build("a", {"lora": "new.safetensors"})).graph
    asked = used.definitions_asked
    await workflows.build("a", {"lora": "new.safetensors"})
    assert used.definitions_asked == asked


async def test_the_checkpoint_of_the_warm_up_is_told(folder: Path, open_folder: Open) -> None:
    source = "from comfyui_stateless.workflows import warmup_checkpoint\n"
    (folder / "a.py").write_text(
        source + PYTHON.format(text="x").replace('"x"', "warmup_checkpoint")
    )
    used = engine(file_inputs={"Ckpt": {"ckpt_name": ModelInput(("checkpoints",))}})
    workflows = open_folder(used)
    await workflows.edition()
    workflows.warm_up_with({"1": {"class_type": "Ckpt", "inputs": {"ckpt_name": "sd.safetensors"}}})
    await workflows.edition(lists=True)
    assert (await workflows.build("a", {})).input == {"text": "sd.safetensors"}


async def test_an_unknown_path_is_answered_with_what_is_near(
    folder: Path, open_folder: Open
) -> None:
    write(folder, "sdxl/txt2img", small_graph())
    workflows = open_folder()
    for path in ("sdxl/txt2imgs", "SDXL/txt2img", "txt2img"):
        with pytest.raises(NotFound, match="sdxl/txt2img") as caught:
            await workflows.build(path, {})
        assert caught.value.details == {"near": ["sdxl/txt2img"]}


async def test_a_file_that_loads_for_long_keeps_no_other_waiting(
    folder: Path, open_folder: Open
) -> None:
    write(folder, "quick", small_graph())
    gate = folder / "gate"
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists():\n    time.sleep(0.01)\n"
    (folder / "slow.py").write_text(wait + PYTHON.format(text="at last"))
    workflows = open_folder(rescan_s=60)
    assert (await workflows.build("quick", {})).graph
    assert (await workflows.edition(path="quick")).entries["slow"].endpoint is None
    gate.touch()
    assert (await workflows.build("slow", {})).input == {"text": "at last"}
