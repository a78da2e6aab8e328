"""The prompt for language models shows what is true: its examples load, and it names what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from comfyui_stateless import workflows
from comfyui_stateless.workflows.command import main
from comfyui_stateless.workflows.declared import KINDS, SETTINGS, TOP
from tests.workflows.test_command import TEXT_TO_IMAGE

TEXT = (Path(__file__).parents[2] / "docs" / "workflow-prompt.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    [found] = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return str(found)


def test_the_example_in_yaml_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "made.json").write_text(json.dumps(TEXT_TO_IMAGE))
    (tmp_path / "made.yaml").write_text(block("yaml"))
    assert main(["check", str(tmp_path)]) == 0
    assert "takes prompt*, width, seed" in capsys.readouterr().out


def test_the_example_in_python_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "made.py").write_text(block("python"))
    assert main(["check", str(tmp_path)]) == 0
    assert "takes prompt*, width, seed, checkpoint" in capsys.readouterr().out


@pytest.mark.parametrize("name", [*TOP, *SETTINGS, *KINDS, *workflows.__all__])
def test_everything_that_a_file_may_say_is_named(name: str) -> None:
    assert re.search(rf"`(\{{.*)?{name}\b", TEXT)
