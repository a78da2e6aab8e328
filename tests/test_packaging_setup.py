from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from docker import packaging
from docker.environments import Environment
from docker.steps import Console


class Recorder(Console):
    """A console that only notes what it should run."""

    def __init__(self, log: Path) -> None:
        super().__init__(log)
        self.commands: list[list[str]] = []

    def run(self, command: Sequence[str | os.PathLike[str]]) -> None:
        self.commands.append([str(word) for word in command])


@pytest.fixture
def target(tmp_path: Path) -> Environment:
    environment = Environment(tmp_path / "packaging")
    environment.make(Console(tmp_path / "setup.log"), with_pip=False)
    return environment


def test_the_tools_are_pinned_and_installed_once(
    target: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Recorder(tmp_path / "setup.log")
    packaging.ensure(target, console)
    packaging.ensure(target, console)
    [command] = console.commands
    assert command[0] == str(target.python)
    assert set(packaging.REQUIREMENTS) <= set(command)
    assert all("==" in requirement for requirement in packaging.REQUIREMENTS)
    monkeypatch.setattr(packaging, "REQUIREMENTS", (*packaging.REQUIREMENTS, "another==1"))
    packaging.ensure(target, console)
    assert "another==1" in console.commands[1]
