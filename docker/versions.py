#!/usr/bin/env python3
"""Run the tests that need no ComfyUI on other Pythons, with the oldest and the newest dependencies.

`python3 docker/versions.py --help`. Environments and logs lie in .comfyui/versions/, and are kept.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

# As a script it finds its neighbours as the package that they are for the tests.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from docker.checkout import development_requirements
from docker.environments import Environment, key_of
from docker.steps import Console, SetupError, exclusive

ROOT = Path(__file__).resolve().parent.parent
# The oldest dependencies have no wheels for newer Pythons than these.
VARIANTS = ("3.10-oldest", "3.11-oldest", "3.10-newest", "3.12-newest", "3.13-newest")
TESTS = ("tests", "--ignore=tests/comfyui", "--ignore=tests/browser", "--ignore=tests/package")
# What touches the dependencies and Python itself (processes, signals, sockets, files) most, in some
# three minutes.
QUICK = (
    "tests/api", "tests/gateway", "tests/journal", "tests/launcher", "tests/metrics",
    "tests/webhooks", "tests/storage/test_s3.py", "tests/storage/test_huggingface.py",
    "tests/storage/test_http.py", "tests/test_background.py", "tests/test_config.py",
    "tests/test_convert_options.py", "tests/test_importing.py", "tests/test_outputs.py",
    "tests/test_png.py", "tests/test_prepare.py", "tests/test_requests.py", "tests/workflows",
)  # fmt: skip
# These try Node.js far more than Python, for a quarter of the time.
NOT_QUICK = ("--ignore=tests/workflows/test_javascript.py",)
# As many tests may fail beside other processes and pass alone; more are no accident.
MAY_FAIL = 3
# Large, and for the linters and the browser alone.
NEEDLESS = ("mypy", "playwright", "ruff", "types-PyYAML")
# A tool of the tests whose newer releases need a newer pydantic than we do.
OLD_TOOLS = "svix==1.60\n"
# These make pictures that the oldest Pillow cannot write.
NEWER_PILLOW = ("--ignore=tests/test_convert.py", "--ignore=tests/test_media.py")


@dataclass(frozen=True)
class Variant:
    """A Python's version, and whether its dependencies are the oldest allowed or the newest."""

    python: str
    is_oldest: bool

    @classmethod
    def named(cls, name: str) -> Variant:
        python, _, age = name.partition("-")
        return cls(python, age == "oldest")


def find_python(version: str) -> Path | None:
    """Return a Python of this version: on PATH, of pyenv's or of uv's; None where there is none."""
    on_path = shutil.which(f"python{version}")
    pyenv = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
    candidates = [*([on_path] if on_path else []), *map(str, reversed(pyenv)), *_of_uv(version)]
    return next((Path(python) for python in candidates if _is(python, version)), None)


def _of_uv(version: str) -> Iterator[str]:
    if uv := shutil.which("uv"):
        command = [uv, "python", "find", "--no-python-downloads", version]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        yield from found.stdout.split()[:1]


def _is(python: str, version: str) -> bool:
    code = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        said = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return said.stdout.strip() == version


def oldest(requirements: str) -> str:
    """Return pins of the lower bounds of all lines, for pip's ``--constraint``."""
    bounds = re.findall(r"^([\w.-]+)>=([\w.]+)", requirements, re.MULTILINE)
    return "".join(f"{name}=={bound}\n" for name, bound in bounds)


def ensure(variant: Variant, python: Path, folder: Path, console: Console) -> Path:
    """Make a variant's environment, unless it is there. Returns its Python.

    Raises SetupError when pip fails.
    """
    target = Environment(folder)
    requirements = ROOT / "requirements.txt"
    left_out = (*NEEDLESS, "pillow") if variant.is_oldest else NEEDLESS
    tools = development_requirements(ROOT / "pyproject.toml")
    tools = [tool for tool in tools if not tool.startswith(left_out)]
    pins = ""
    if variant.is_oldest:
        pins = oldest(requirements.read_text(encoding="utf-8")) + OLD_TOOLS

    def install() -> None:
        age = "oldest" if variant.is_oldest else "newest"
        with console.step(f"Python {variant.python} with the {age} dependencies"):
            console.run([python, "-m", "venv", "--clear", folder])
            constraints = folder / "pins.txt"
            constraints.write_text(pins, encoding="utf-8")
            options: list[str | Path] = [] if variant.is_oldest else ["--upgrade"]
            options += ["--constraint", constraints, "-r", requirements, *tools]
            target.pip_install(console, options)

    folder.mkdir(parents=True, exist_ok=True)
    target.ensure("versions", key_of([str(python), pins, requirements, *tools]), install)
    return target.python


def command(variant: Variant, python: Path, more: Sequence[str], *, is_quick: bool) -> list[str]:
    """Return what runs the tests with an environment's Python."""
    tests = QUICK if is_quick else TESTS
    left_out = NOT_QUICK if is_quick else NEWER_PILLOW if variant.is_oldest else ()
    return [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, *left_out, *more]


def once_more(words: Sequence[str], said: str) -> list[str] | None:
    """Return what runs a few failed tests again; None where they are many, or pytest has named none.

    Args:
        words: The command that has run all of them.
        said: Its output, with pytest's summary at the end.
    """
    failed = re.findall(r"^(?:FAILED|ERROR) (\S.*?::.*?)(?: - .*)?$", said, re.MULTILINE)
    if not 0 < len(failed) <= MAY_FAIL:
        return None
    return [*words[: words.index("no:cacheprovider") + 1], *failed]


def _wait_for_room(running: Collection[subprocess.Popen[bytes]], most: int) -> None:
    while sum(process.poll() is None for process in running) >= most:
        time.sleep(0.05)


def run_all(
    commands: Iterator[tuple[str, list[str] | None]], folder: Path | None, most: int = 2
) -> dict[str, bool]:
    """Run commands by their name, None being one that cannot be run; say which have ended well.

    A few tests that fail beside others are run once more when these are done, and it is said.

    Args:
        folder: Where each is run beside those that follow, with a log of its own in there, which is
            shown when it has failed; None for one after the other.
        most: How many are run beside each other; tests that wait fail where the machine is full.
    """
    passed: dict[str, bool] = {}
    running: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
    asked: dict[str, list[str]] = {}
    again: dict[str, list[str]] = {}
    with ExitStack() as stack:
        for name, words in commands:
            if words is None:
                passed[name] = False
            elif folder is None:
                print(f"+ {name}", file=sys.stderr, flush=True)
                passed[name] = subprocess.run(words, cwd=ROOT, check=False).returncode == 0
            else:
                log = folder / f"{name}.log"
                output = stack.enter_context(log.open("wb"))
                _wait_for_room([process for process, _ in running.values()], most)
                process = subprocess.Popen(words, cwd=ROOT, stdout=output, stderr=output)
                stack.callback(process.kill)
                running[name], asked[name] = (process, log), words
        for name, (process, log) in running.items():
            passed[name] = process.wait() == 0
            said = log.read_text(encoding="utf-8", errors="replace")
            lines = said.splitlines()
            print(f"+ {name}", *(lines[-1:] if passed[name] else lines), sep="\n", flush=True)
            if not passed[name] and (words := once_more(asked[name], said)):
                again[name] = words
    for name, words in again.items():
        print(f"+ {name}: what has failed, once more and alone", flush=True)
        passed[name] = subprocess.run(words, cwd=ROOT, check=False).returncode == 0
    return passed


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Read the command line; what is not known is for pytest."""
    parser = argparse.ArgumentParser(prog="versions.py", description=__doc__)
    parser.add_argument("--only", action="append", choices=VARIANTS, help="default: all of them")
    parser.add_argument(
        "--quick", action="store_true", help="what depends most on dependencies and Python"
    )
    parser.add_argument(
        "--at-once",
        action="store_true",
        help="side by side, one more than there are CPUs, each with a log",
    )
    parser.add_argument(
        "--if-there", action="store_true", help="no failure where there is no Python for any"
    )
    return parser.parse_known_args(arguments)


def prepared(
    pythons: Mapping[str, Path], options: argparse.Namespace, more: Sequence[str], console: Console
) -> Iterator[tuple[str, list[str] | None]]:
    """Make one environment after the other; give its name and what to run, None where it failed."""
    store = ROOT / ".comfyui"
    for name, found in pythons.items():
        variant = Variant.named(name)
        try:
            with exclusive(store / "lock", console):
                python = ensure(variant, found, store / "versions" / name, console)
        except SetupError as exc:
            print(f"error: {exc}", file=sys.stderr)
            yield name, None
        else:
            yield name, command(variant, python, more, is_quick=options.quick)


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for. Returns 1 when a test has failed, or nothing could be run."""
    options, more = parse(arguments)
    store = ROOT / ".comfyui"
    console = Console(store / "setup.log")
    pythons: dict[str, Path] = {}
    for name in options.only or VARIANTS:
        version = Variant.named(name).python
        if found := find_python(version):
            pythons[name] = found
        else:
            console.note(f"{name}: skipped, there is no Python {version} here")
    if not pythons:
        return 0 if options.if_there else 1
    logs = store / "versions" if options.at_once else None
    # They wait for a third of their time.
    most = (os.cpu_count() or 1) + 1
    passed = run_all(prepared(pythons, options, more, console), logs, most)
    for name, is_good in passed.items():
        console.note(f"{name}: {'passed' if is_good else 'FAILED'}")
    return 0 if all(passed.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
