from __future__ import annotations

from pathlib import Path

import pytest

from docker import workflow_packages
from docker.steps import Console, SetupError


@pytest.fixture
def console(tmp_path: Path) -> Console:
    return Console(tmp_path / "setup.log")


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "package.json").write_text("{}")
    (folder / "package-lock.json").write_text('{"lockfileVersion": 3}')
    return folder


@pytest.fixture(autouse=True)
def _without_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def test_without_npm_one_line_says_what_will_fail(
    tmp_path: Path, lists: Path, console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow_packages.ensure(tmp_path / "packages", lists, console)
    [line] = capsys.readouterr().err.splitlines()
    assert "the tests of workflow files in JavaScript will fail" in line
    assert not (tmp_path / "packages").exists()


def test_npm_installs_what_is_pinned_once_and_again_when_that_changes(
    tmp_path: Path, lists: Path, console: Console
) -> None:
    npm, folder = tmp_path / "npm", tmp_path / "packages"
    npm.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/asked"\n')
    npm.chmod(0o755)
    workflow_packages.ensure(folder, lists, console)
    workflow_packages.ensure(folder, lists, console)
    [asked] = (tmp_path / "asked").read_text().splitlines()
    assert asked.startswith("ci --ignore-scripts")
    assert asked.endswith(f"--prefix {folder}")
    assert (folder / "package.json").is_file()

    (lists / "package-lock.json").write_text('{"lockfileVersion": 4}')
    npm.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(SetupError, match="status 3"):
        workflow_packages.ensure(folder, lists, console)
    npm.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/asked"\n')
    workflow_packages.ensure(folder, lists, console)
    assert len((tmp_path / "asked").read_text().splitlines()) == 2
