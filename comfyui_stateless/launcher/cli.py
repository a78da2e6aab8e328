"""The console script."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from .first_process import is_first, stand_by

WRONG = 2
"""The exit code of a wrong command line or setting."""

WORKFLOW = "workflow"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the launcher, or one of the other commands; return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if sys.platform == "win32":
        sys.stderr.write("The launcher needs Linux or macOS; on Windows, use WSL.\n")
        return WRONG
    # Before anything heavy is imported: the first process keeps it in memory for nothing.
    if is_first() and (code := stand_by()) is not None:
        return code
    if arguments[:1] == [WORKFLOW]:
        from ..workflows.command import main as workflow

        return workflow(arguments[1:])
    return _launch(arguments)


def _launch(arguments: Sequence[str]) -> int:
    from ..config import override
    from ..errors import StatelessError
    from .flags import PROGRAM, parse
    from .main import launch, plan, prepared

    asked = parse(arguments)
    override(asked.variables)
    try:
        setup = prepared(asked.arguments)
        if asked.is_dry:
            sys.stdout.writelines(f"{line}\n" for line in plan(setup))
            return 0
    except StatelessError as error:
        sys.stderr.write(f"{PROGRAM}: {error.message}\n")
        return WRONG
    code = launch(setup)
    sys.stderr.flush()
    # A download that was given up may still hold a thread, which nobody shall wait for.
    os._exit(code)
