from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from comfyui_stateless.workflows.command import main
from tests.workflows.scripts import packages, script

EXAMPLES = Path(__file__).parents[2] / "examples" / "workflows"
GRAPHS = sorted(EXAMPLES.rglob("*.json"))

SAMPLER = {
    "seed": 5, "steps": 20, "cfg": 8, "sampler_name": "euler", "scheduler": "normal", "denoise": 1,
    "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0],
}  # fmt: skip


def node(class_type: str, title: str = "", **inputs: Any) -> dict[str, Any]:
    meta = {"_meta": {"title": title}} if title else {}
    return {"class_type": class_type, "inputs": inputs, **meta}


TEXT_TO_IMAGE = {
    "3": {"class_type": "KSampler", "inputs": SAMPLER},
    "4": node("CheckpointLoaderSimple", ckpt_name="dream.safetensors"),
    "5": node("EmptyLatentImage", width=512, height=768, batch_size=1),
    "6": node("CLIPTextEncode", text='a "quoted"\nhouse: #1', clip=["4", 1]),
    "7": node("CLIPTextEncode", text="blurry", clip=["4", 1]),
    "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    "9": node("SaveImage", filename_prefix="ComfyUI", images=["8", 0]),
}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(graph: Any, name: str = "exported.json") -> Path:
        path = tmp_path / name
        path.write_text(graph if isinstance(graph, str) else json.dumps(graph), encoding="utf-8")
        return path

    return write


def made(path: Path) -> dict[str, Any]:
    """Return the inputs of the YAML file beside a graph."""
    inputs = yaml.safe_load(path.with_suffix(".yaml").read_text(encoding="utf-8"))["inputs"]
    assert isinstance(inputs, dict)
    return inputs


def places(path: Path) -> dict[str, list[str]]:
    """Return where each input's value goes."""
    return {
        name: [f"{t['node']}.{t['input']}" for t in said.get("to", [said])]
        for name, said in made(path).items()
    }


def test_a_graph_becomes_an_endpoint_that_offers_what_most_do(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(TEXT_TO_IMAGE)
    assert main(["new", str(path)]) == 0
    assert places(path) == {
        "prompt": ["6.text"],
        "negative_prompt": ["7.text"],
        "seed": ["3.seed"],
        "steps": ["3.steps"],
        "cfg": ["3.cfg"],
        "sampler": ["3.sampler_name"],
        "scheduler": ["3.scheduler"],
        "checkpoint": ["4.ckpt_name"],
        "width": ["5.width"],
        "height": ["5.height"],
        "count": ["5.batch_size"],
    }
    assert made(path)["prompt"]["required"] is True
    assert made(path)["seed"]["type"] == "seed"
    assert json.loads(path.read_text(encoding="utf-8")) == TEXT_TO_IMAGE
    assert "prompt (required) -> 6.text" in capsys.readouterr().out


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda path: str(path.relative_to(EXAMPLES)))
@pytest.mark.parametrize("form", [[], ["--python"], ["--all"], ["--all", "--python"]], ids=str)
def test_what_is_made_of_any_example_loads(graph: Path, form: list[str], tmp_path: Path) -> None:
    assert main(["new", str(graph), "--output", str(tmp_path), "--name", "a/made", *form]) == 0
    made_files = {path.suffix for path in (tmp_path / "a").iterdir() if path.is_file()}
    assert made_files == ({".py"} if "--python" in form else {".json", ".yaml"})
    assert main(["check", str(tmp_path)]) == 0


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_the_prompts_images_and_seeds_of_the_examples_are_found(
    graph: Path, tmp_path: Path
) -> None:
    assert main(["new", str(graph), "--output", str(tmp_path), "--name", "made"]) == 0
    found, by_hand = places(tmp_path / "made.json"), places(graph)
    for name in {"prompt", "negative_prompt", "image", "mask", "seed", "width"} & set(by_hand):
        assert found[name] == by_hand[name]


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (
            {"6": node("ConditioningZeroOut", conditioning=["7", 0]), "3": {"class_type": "KSampler", "inputs": {**SAMPLER, "positive": ["7", 0], "negative": ["6", 0]}}},
            {"prompt": ["7.text"]},
        ),
        (
            {"6": node("FluxGuidance", guidance=3.5, conditioning=["10", 0]), "10": node("CLIPTextEncodeFlux", clip_l="a", t5xxl="a", guidance=2.0)},
            {"prompt": ["10.clip_l", "10.t5xxl"], "guidance": ["6.guidance"], "guidance_2": ["10.guidance"]},
        ),
        (
            {"6": node("CLIPTextEncode", text=["10", 0]), "10": node("PrimitiveStringMultiline", value="a castle")},
            {"prompt": ["10.value"]},
        ),
        (
            {
                "3": {"class_type": "KSampler", "inputs": {**SAMPLER, "positive": ["10", 0], "negative": ["10", 1]}},
                "10": node("ControlNetApplyAdvanced", strength=0.7, positive=["6", 0], negative=["7", 0]),
            },
            {"prompt": ["6.text"], "negative_prompt": ["7.text"]},
        ),
        (
            {
                "3": node("SamplerCustomAdvanced", noise=["11", 0], guider=["10", 0]),
                "10": node("BasicGuider", conditioning=["6", 0]),
                "11": node("RandomNoise", noise_seed=7),
            },
            {"prompt": ["6.text"], "seed": ["11.noise_seed"]},
        ),
        (
            {"10": node("KSampler", seed=5, steps=4, positive=["6", 0], negative=["7", 0])},
            {"seed": ["3.seed", "10.seed"], "steps": ["3.steps"], "steps_2": ["10.steps"]},
        ),
        (
            {"10": node("LoadImage", image="a.png"), "11": node("LoadImageMask", image="b.png"), "12": node("LoadImage", image="c.png")},
            {"image": ["10.image"], "mask": ["11.image"], "image_2": ["12.image"]},
        ),
        ({"6": node("CLIPTextEncode", text="x", clip=["6", 0], conditioning=["6", 0])}, {"prompt": ["6.text"]}),
    ],
    ids=["zeroed", "two texts", "primitive", "controlnet", "guider", "two samplers", "images", "a circle"],
)  # fmt: skip
def test_inputs_are_named_by_what_they_are_for(
    write: Write, nodes: dict[str, Any], expected: dict[str, list[str]]
) -> None:
    path = write({**TEXT_TO_IMAGE, **nodes})
    assert main(["new", str(path)]) == 0
    found = places(path)
    assert {name: found.get(name) for name in expected} == expected


def test_widgets_are_named_by_hand_too(write: Write) -> None:
    path = write({**TEXT_TO_IMAGE, "57:8": node("ModelSamplingAuraFlow", shift=3.0)})
    named = ["--input", "57:8.shift=shift", "--input", "3.steps=quality"]
    assert main(["new", str(path), *named]) == 0
    found = places(path)
    assert (found["shift"], found["quality"], found.get("steps")) == (
        ["57:8.shift"],
        ["3.steps"],
        None,
    )


def test_widgets_of_one_name_are_one_input(write: Write) -> None:
    graph = {**TEXT_TO_IMAGE, "10": node("KSampler", seed=9, steps=4)}
    path = write(graph)
    named = ["--input", "3.seed=number", "--input", "10.seed=number"]
    assert main(["new", str(path), *named]) == 0
    assert places(path)["number"] == ["3.seed", "10.seed"]


def test_all_widgets_can_be_offered(write: Write) -> None:
    path = write({**TEXT_TO_IMAGE, "10": node("ImageBlur", "My blur 2", blur_radius=3, sigma=1.5)})
    assert main(["new", str(path), "--all"]) == 0
    found = places(path)
    assert found["my_blur_2_blur_radius"] == ["10.blur_radius"]
    assert ["3.denoise"] in found.values()
    assert not any("9.filename_prefix" in place for place in found.values())


def test_asked_for_each_widget_one_answers(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(
        {
            "1": node("EmptyImage", width=64, height=64, color=0),
            "2": node("SaveImage", images=["1", 0]),
        }
    )
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n-\nSky Color\nsky_color\n"))
    assert main(["new", str(path), "--interactive"]) == 0
    assert places(path) == {"width": ["1.width"], "sky_color": ["1.color"]}
    assert "1.height of EmptyImage = 64 [height]" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert main(["new", str(path), "--interactive"]) == 1


@pytest.mark.parametrize(
    ("graph", "arguments", "message"),
    [
        ({"nodes": [], "links": []}, [], "Export (API)"),
        ('{\n  "1": {"class_type": 3}\n}', [], "exported.json:2: node 1: "),
        ("{\n\n", [], "exported.json:3: it is not JSON"),
        (TEXT_TO_IMAGE, ["--input", "3.nothing=x"], "no widget 3.nothing; it has 3.seed, 3.steps"),
        (TEXT_TO_IMAGE, ["--input", "3.model=x"], "no widget 3.model"),
        (TEXT_TO_IMAGE, ["--input", "3.steps=Not a name"], "a name such as"),
        (TEXT_TO_IMAGE, ["--name", "../outside"], "leads out of the folder"),
    ],
    ids=["UI format", "no node", "no JSON", "no widget", "a link", "no name", "outside"],
)
def test_what_cannot_be_made_is_refused_with_the_reason(
    write: Write, graph: Any, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(graph)
    assert main(["new", str(path), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert list(path.parent.iterdir()) == [path]


def test_files_that_are_there_stay_unless_forced(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(TEXT_TO_IMAGE)
    path.with_suffix(".yaml").write_text("mine: true")
    assert main(["new", str(path)]) == 1
    assert "--force" in capsys.readouterr().err
    assert path.with_suffix(".yaml").read_text() == "mine: true"
    assert main(["new", str(path), "--force"]) == 0
    assert "prompt" in made(path)


def test_check_names_file_line_and_reason_and_goes_on(
    write: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORKFLOW_NODE_PACKAGES", str(packages()))
    good, graph = write(script(), "good.js"), write(TEXT_TO_IMAGE, "graph.json")
    write("inputs:\n  sky:\n    node: 99\n    input: text\n", "graph.yaml")
    write("import nothing_at_all\n", "code.py")
    write("const a = 1;\nconst = 2;\n", "script.ts")
    assert main(["check", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out == f"{good}: takes text*\n"
    assert f"{graph.with_suffix('.yaml')}:3: inputs.sky.node: the graph has no node 99" in err
    assert f"{tmp_path / 'code.py'}:1: ModuleNotFoundError" in err
    assert f"{tmp_path / 'script.ts'}:2: Variable declaration expected" in err
    assert main(["check", str(good), str(tmp_path / "gone.py")]) == 1
    assert "gone.py: it is not there" in capsys.readouterr().err


def test_a_server_that_is_none_is_named(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(TEXT_TO_IMAGE)
    assert main(["check", str(path), "--server", "http://127.0.0.1:1"]) == 1
    assert "No ComfyUI answers at http://127.0.0.1:1" in capsys.readouterr().err


def test_packages_that_are_there_are_not_installed_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["packages", str(packages())]) == 0
    assert capsys.readouterr().out == f"WORKFLOW_NODE_PACKAGES={packages()}\n"
