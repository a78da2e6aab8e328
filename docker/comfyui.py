#!/usr/bin/env python3
"""Get a ComfyUI, make it ready for this checkout's extension, and start it.

Needs nothing but Python 3.10 with its venv module. `python3 docker/comfyui.py --help`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

# As a script it finds its neighbours as the package that they are for the tests.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from docker import homes, releases, serving
from docker.checkout import Checkout
from docker.steps import Console, SetupError, exclusive

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 10)
# The suite runs on these where no ComfyUI is given, the first being the main one.
TESTED_VERSIONS = (releases.DEFAULT_VERSION, "0.3.52")


def get(options: argparse.Namespace, checkout: Checkout) -> None:
    """Put a ComfyUI into a folder, and nothing else."""
    home = options.dest or checkout.store / options.version
    releases.get(
        options.version, home.absolute(), checkout.console, lambda: checkout.ensure_base().python
    )
    print(home.absolute())


def tools(_options: argparse.Namespace, checkout: Checkout) -> None:
    """Install the linters, the type checker and pytest."""
    checkout.ensure_development_tools()


def prepare(options: argparse.Namespace, checkout: Checkout) -> None:
    """Make everything ready; print the ComfyUIs as a JSON list of version, home, python."""
    if options.dev:
        checkout.ensure_development_tools()
        checkout.ensure_test_servers()
        checkout.ensure_packaging_tools()
        checkout.ensure_torch()
    if options.fuzz:
        checkout.ensure_fuzzer()
    versions = TESTED_VERSIONS if options.dev else TESTED_VERSIONS[:1]
    prepared = _prepare(options, checkout, versions)
    print(json.dumps([{k: str(v) for k, v in vars(comfyui).items()} for comfyui in prepared]))


def _prepare(
    options: argparse.Namespace, checkout: Checkout, versions: Sequence[str]
) -> list[homes.Prepared]:
    python = os.environ.get("COMFY_PYTHON")
    if options.comfy_home:
        home = Path(options.comfy_home).expanduser().resolve()
        return [homes.prepare_home(checkout, home, python)]
    return [homes.prepare_release(checkout, version, python) for version in versions]


def serve(options: argparse.Namespace, checkout: Checkout) -> homes.Prepared:
    """Make one ComfyUI ready; it is started when the set-up lock is released."""
    serving.check_port(options.listen, options.port)
    return _prepare(options, checkout, TESTED_VERSIONS[:1])[0]


def launch(options: argparse.Namespace, checkout: Checkout) -> homes.Prepared:
    """Make one ComfyUI ready; the launcher is started when the set-up lock is released."""
    return _prepare(options, checkout, TESTED_VERSIONS[:1])[0]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; COMFY_HOME, COMFY_PYTHON, PORT and LISTEN stand in for options."""
    parser = argparse.ArgumentParser(prog="comfyui.py", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("get", help=get.__doc__)
    command.set_defaults(run=get)
    command.add_argument("--version", default=releases.DEFAULT_VERSION)
    command.add_argument("--dest", type=Path, help="default: .comfyui/VERSION in the checkout")
    commands.add_parser("tools", help=tools.__doc__).set_defaults(run=tools)
    command = commands.add_parser("prepare", help=prepare.__doc__)
    command.set_defaults(run=prepare)
    command.add_argument("--dev", action="store_true", help="all that the test suite needs")
    command.add_argument("--fuzz", action="store_true", help="and the fuzzer of `make fuzz`")
    _add_home(command)
    command = commands.add_parser("serve", help="Make a ComfyUI ready and run it.")
    command.set_defaults(run=serve)
    command.add_argument("--port", type=int, default=os.environ.get("PORT") or "8188")
    command.add_argument("--listen", default=os.environ.get("LISTEN") or "127.0.0.1")
    command.add_argument("--exit-with-parent", action="store_true", help="(Linux)")
    command.add_argument("arguments", nargs="*", help="for ComfyUI's main.py, after `--`")
    _add_home(command)
    command = commands.add_parser("launch", help="Make a ComfyUI ready and run the launcher.")
    command.set_defaults(run=launch)
    command.add_argument("arguments", nargs="*", help="for ComfyUI's main.py, after `--`")
    _add_home(command)
    return parser.parse_args(arguments)


def _add_home(command: argparse.ArgumentParser) -> None:
    home = os.environ.get("COMFY_HOME")
    command.add_argument("--comfy-home", default=home, help="default: COMFY_HOME, else one is got")


def main(arguments: Sequence[str]) -> int:
    """Run one command. Returns its exit status; `serve` and `launch` become what they start."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        print(f"Python 3.10 or newer is needed; this is {sys.version}", file=sys.stderr)
        return 1
    options = parse(arguments)
    signal.signal(signal.SIGTERM, _exit)
    store = ROOT / ".comfyui"
    console = Console(store / "setup.log")
    try:
        with exclusive(store / "lock", console):
            prepared = options.run(options, Checkout(ROOT, console))
        if options.run is serve:
            serving.serve(prepared, options)
        elif options.run is launch:
            serving.launch(prepared, ROOT, options.arguments)
    except SetupError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _exit(number: int, _frame: FrameType | None) -> None:
    # An exception, unlike the signal's own effect, lets half-made things be cleared away.
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
