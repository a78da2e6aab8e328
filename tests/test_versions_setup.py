"""The command that runs tests on other Pythons: what it finds, pins, makes and says."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from docker import neighbours, versions
from docker.steps import Console

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


class Recording(Console):
    """Notes commands instead of running them; folders that they would make are made."""

    def __init__(self, log: Path) -> None:
        super().__init__(log)
        self.commands: list[list[str]] = []

    def run(self, command: Sequence[Any]) -> None:
        self.commands.append([str(word) for word in command])
        if "--target" in self.commands[-1]:
            Path(self.commands[-1][self.commands[-1].index("--target") + 1]).mkdir()


def test_a_python_is_found_by_its_version_and_one_that_is_not_there_is_not() -> None:
    found = versions.find_python(HERE)
    assert found is not None
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    said = subprocess.run([found, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == HERE
    assert versions.find_python("3.99") is None


def test_the_oldest_are_the_lower_bounds_of_all_requirements() -> None:
    text = (versions.ROOT / "requirements.txt").read_text(encoding="utf-8")
    pins = versions.oldest(text).splitlines()
    assert len(pins) == len(text.splitlines())
    assert (
        versions.oldest("some_thing>=1.2,<3\nother-one>=4\n") == "some_thing==1.2\nother-one==4\n"
    )


@pytest.mark.parametrize("name", versions.VARIANTS)
def test_an_environment_is_made_once(tmp_path: Path, name: str) -> None:
    console = Recording(tmp_path / "log")
    variant = versions.Variant.named(name)
    for _ in range(2):
        versions.ensure(variant, Path("python"), tmp_path / name, console)
    made, installed = console.commands
    assert made[:3] == ["python", "-m", "venv"]
    pins = Path(installed[installed.index("--constraint") + 1]).read_text(encoding="utf-8")
    assert ("pydantic==" in pins) == variant.is_oldest
    assert ("--upgrade" in installed) != variant.is_oldest


def test_pythons_that_are_not_there_are_named_and_nothing_run_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(versions, "find_python", lambda _: None)
    assert versions.main(["--only", "3.13-newest"]) == 1
    assert "3.13-newest: skipped, there is no Python 3.13 here" in capsys.readouterr().err
    assert versions.main(["--only", "3.13-newest", "--if-there"]) == 0


def test_of_those_at_once_each_runs_beside_the_next_and_shows_its_output_when_it_fails(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    met = f"import time, pathlib\nwhile not pathlib.Path({str(tmp_path / 'met')!r}).exists():\n time.sleep(0.01)"
    meets = f"import pathlib, sys; pathlib.Path({str(tmp_path / 'met')!r}).touch(); sys.exit(1)"
    first = [sys.executable, "-c", f"{met}\nprint('hidden\\nwell')"]
    second = [sys.executable, "-c", f"print('why', flush=True); {meets}"]
    each = [("first", first), ("second", second), ("third", None)]
    passed = versions.run_all(iter(each), tmp_path)
    assert passed == {"first": True, "second": False, "third": False}
    assert capfd.readouterr().out.splitlines() == ["+ first", "well", "+ second", "why"]


@pytest.mark.parametrize(("fails", "passes"), [(1, True), (3, True), (4, False), (0, False)])
def test_a_few_tests_that_fail_beside_others_are_run_once_more_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], fails: int, passes: bool
) -> None:
    marks = f"import pathlib, pytest\nMARKS = pathlib.Path({str(tmp_path)!r})\n"
    flaky = f"""{marks}
@pytest.mark.parametrize("n", range({fails}))
def test_flaky(n):
    mark = MARKS / f"mark {{n}}"
    was_there = mark.exists()
    mark.touch()
    assert was_there, "not yet - this time"
"""
    steady = "def test_steady(): assert False\n" if not fails else "def test_steady(): pass\n"
    (tmp_path / "test_flaky.py").write_text(flaky + steady)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    assert versions.run_all(iter([("one", words)]), tmp_path) == {"one": passes}
    assert ("+ one: what has failed, once more and alone" in capfd.readouterr().out) == (fails != 4)


def test_no_more_are_run_at_once_than_was_said(tmp_path: Path) -> None:
    alone = f"import pathlib, time\nmark = pathlib.Path({str(tmp_path / 'mark')!r})\nmark.mkdir()\ntime.sleep(0.05)\nmark.rmdir()"
    each = [(name, [sys.executable, "-c", alone]) for name in ("first", "second", "third")]
    assert set(versions.run_all(iter(each), tmp_path, most=1).values()) == {True}


def test_one_after_the_other_they_share_the_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    commands = [(name, [sys.executable, "-c", f"print({name!r})"]) for name in ("a", "b")]
    assert versions.run_all(iter(commands), None) == {"a": True, "b": True}
    assert capfd.readouterr().out == "a\nb\n"


def test_the_quick_tests_are_there() -> None:
    assert all((versions.ROOT / path).exists() for path in versions.QUICK)


def test_the_manager_is_installed_once_without_what_it_wants(tmp_path: Path) -> None:
    console = Recording(tmp_path / "log")
    for _ in range(2):
        neighbours.ensure(tmp_path / "packages", console, Path("python"))
    (command,) = console.commands
    assert "--no-deps" in command
    assert command[-len(neighbours.REQUIREMENTS) :] == list(neighbours.REQUIREMENTS)
