from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from docker import browser
from docker.steps import Console, SetupError


@pytest.fixture
def console(tmp_path: Path) -> Console:
    return Console(tmp_path / "setup.log")


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of programs that there is."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def script(file: Path, text: str) -> Path:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def test_without_chromium_and_apt_one_line_says_what_will_fail(
    tmp_path: Path, console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    browser.ensure_chromium(console, tmp_path / "chromium")
    [line] = capsys.readouterr().err.splitlines()
    assert "apt-get install chromium" in line
    assert "tests/browser will fail" in line


def test_root_gets_chromium_from_apt(
    tmp_path: Path, console: Console, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docker.browser._is_root", lambda: True)
    script(programs / "apt-get", f'echo "$@" >> {tmp_path}/asked')
    browser.ensure_chromium(console, tmp_path / "chromium")
    update, install = (tmp_path / "asked").read_text().splitlines()
    assert update.startswith("update")
    assert install.endswith("chromium")


def test_chromium_that_is_there_stays(
    tmp_path: Path, console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    browser.ensure_chromium(console, script(tmp_path / "chromium", ""))
    assert capsys.readouterr().err == ""


def test_a_frontend_that_is_there_stays(tmp_path: Path, console: Console) -> None:
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "index.html").touch()
    browser.ensure_frontend(tmp_path, console, tmp_path / "no-python")


def test_a_frontend_other_than_the_pinned_one_is_refused_and_leaves_nothing(
    tmp_path: Path, console: Console
) -> None:
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as wheel:
        wheel.writestr(f"{browser.PACKAGE}/static/index.html", "something else")
    script(tmp_path / "python", f'/bin/cp {tmp_path}/other.whl "$8"')
    with pytest.raises(SetupError, match="not the one"):
        browser.ensure_frontend(tmp_path / "frontend", console, tmp_path / "python")
    assert not (tmp_path / "frontend").exists()
    assert not (tmp_path / ".frontend.partial").exists()


def test_the_pinned_frontend_is_unpacked(
    tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as wheel:
        wheel.writestr(f"{browser.PACKAGE}/static/index.html", "the page")
    monkeypatch.setattr("docker.browser.SHA256", _sha256(tmp_path / "other.whl"))
    script(tmp_path / "python", f'/bin/cp {tmp_path}/other.whl "$8"')
    browser.ensure_frontend(tmp_path / "frontend", console, tmp_path / "python")
    assert (tmp_path / "frontend" / "static" / "index.html").read_text() == "the page"
    assert not (tmp_path / ".frontend.partial").exists()


def _sha256(file: Path) -> str:
    import hashlib

    return hashlib.sha256(file.read_bytes()).hexdigest()
