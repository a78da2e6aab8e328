"""The fuzzer is installed where it is to be had; elsewhere one line says that it is not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from docker import fuzzing
from docker.environments import Environment
from docker.steps import Console, SetupError


@dataclass(frozen=True)
class Installing(Environment):
    """Has a pip that only says what it was asked for."""

    asked: list[list[str]] = field(default_factory=list)
    fails: list[bool] = field(default_factory=list)

    def pip_install(self, console: Console, options: Iterable[str | Path]) -> None:
        self.asked.append(list(map(str, options)))
        if self.fails:
            raise SetupError("no matching distribution")


@pytest.fixture
def base(tmp_path: Path) -> Installing:
    return Installing(tmp_path)


def test_the_fuzzer_is_installed_once_and_never_built(base: Installing, tmp_path: Path) -> None:
    for _ in range(2):
        fuzzing.ensure(base, Console(tmp_path / "log"))
    assert base.asked == [["--only-binary", "atheris", fuzzing.REQUIREMENT]]


def test_where_there_is_no_fuzzer_one_line_says_so_and_the_set_up_goes_on(
    base: Installing, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base.fails.append(True)
    fuzzing.ensure(base, Console(tmp_path / "log"))
    [_, note] = capsys.readouterr().err.splitlines()
    assert "atheris cannot be had for this Python: hypothesis alone" in note
    base.fails.clear()
    fuzzing.ensure(base, Console(tmp_path / "log"))
    assert len(base.asked) == 2
