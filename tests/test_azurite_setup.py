from __future__ import annotations

from pathlib import Path

import pytest

from docker import azurite
from docker.steps import Console, SetupError


@pytest.fixture
def console(tmp_path: Path) -> Console:
    return Console(tmp_path / "setup.log")


@pytest.fixture(autouse=True)
def _without_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def test_without_npm_one_line_says_what_will_fail(
    tmp_path: Path, console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    azurite.ensure(tmp_path / "azurite", console)
    [line] = capsys.readouterr().err.splitlines()
    assert "npm is not there" in line
    assert "the tests of Azure will fail" in line
    assert not (tmp_path / "azurite").exists()


def test_the_version_that_is_there_stays(
    tmp_path: Path, console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "azurite"
    folder.mkdir()
    (folder / azurite.STAMP).write_text(azurite.VERSION)
    azurite.ensure(folder, console)
    assert capsys.readouterr().err == ""


def test_npm_puts_it_there_and_a_failure_leaves_no_stamp(tmp_path: Path, console: Console) -> None:
    npm, folder = tmp_path / "npm", tmp_path / "azurite"
    npm.write_text('#!/bin/sh\necho "$@" > "$6/asked"\n')
    npm.chmod(0o755)
    azurite.ensure(folder, console)
    assert f"--prefix {folder} azurite@{azurite.VERSION}" in (folder / "asked").read_text()
    assert (folder / azurite.STAMP).read_text() == azurite.VERSION

    (folder / azurite.STAMP).write_text("1.0.0")
    npm.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(SetupError, match="status 3"):
        azurite.ensure(folder, console)
    assert not (folder / azurite.STAMP).exists()
