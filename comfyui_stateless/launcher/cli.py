"""The console script."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .exit_codes import WRONG

WORKFLOW = "workflow"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the launcher, or one of the other commands; return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if sys.platform == "win32":
        sys.stderr.write("The launcher needs Linux or macOS; on Windows, use WSL.\n")
        return WRONG
    from .first_process import is_first, stand_by

    # Before anything heavy is imported: the first process keeps it in memory for nothing.
    if is_first() and (code := stand_by()) is not None:
        return code
    try:
        return _run(arguments)
    except ImportError as error:
        sys.stderr.write(
            f"comfyui-stateless: {error}. Get what it needs: "
            f"{sys.executable} -m pip install -r {_requirements()}\n"
        )
        return WRONG


def _run(arguments: Sequence[str]) -> int:
    if arguments[:1] == [WORKFLOW]:
        from ..workflows.command import main as workflow

        return workflow(arguments[1:])
    return _launch(arguments)


def _requirements() -> Path:
    """Return the list of what is needed: beside the package, in a wheel inside of it."""
    package = Path(__file__).resolve().parents[1]
    in_wheel = package / "custom_node" / "requirements.txt"
    return in_wheel if in_wheel.is_file() else package.with_name("requirements.txt")


def _launch(arguments: Sequence[str]) -> int:
    from ..config import override
    from ..errors import ConfigError
    from .flags import PROGRAM, parse
    from .main import install, launch, tell
    from .settings import read_configuration

    asked = parse(arguments)
    override(asked.variables)
    try:
        configuration = read_configuration()
    except ConfigError as error:
        sys.stderr.write(f"{PROGRAM}: {error.message}\n")
        return WRONG
    if asked.is_dry:
        return tell(configuration, asked.arguments)
    work = install if asked.installs_only else launch
    code = work(configuration, asked.arguments)
    sys.stderr.flush()
    # A download that was given up may still hold a thread, which nobody shall wait for.
    os._exit(code)
