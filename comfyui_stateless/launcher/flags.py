"""The command line: every environment variable as a flag, and a help that says them all."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from .. import __version__
from ..config import Settings
from .settings import LauncherSettings

PROGRAM = "comfyui-stateless"

DESCRIPTION = """\
Install what a manifest names, start ComfyUI with the stateless API in it, keep it running, and
serve the API on HOST:PORT.

Every setting is an environment variable, and a flag that outranks it: MAX_QUEUE_DEPTH=5 is
--max-queue-depth 5. What follows -- is handed to ComfyUI's main.py: comfyui-stateless -- --lowvram.
A secret that is given as a flag shows in the list of processes while this program runs; as a
variable it does not.

  comfyui-stateless workflow --help   make and check workflow endpoints"""

EPILOG = """\
exit codes:
  0    ended by SIGTERM, SIGINT or SIGHUP, in order; or ComfyUI ended itself with 0
  1    the manifest could not be installed, ComfyUI did not start, its warm-up failed, or it hung
  2    a wrong setting, flag or manifest; the message lists all of them
  else ComfyUI's own exit code; 128 and the signal's number where a signal ended it (137: SIGKILL)"""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "where it listens": ("host", "port", "expose_comfyui", "api_keys"),
    "ComfyUI": (
        "comfy_home", "cmd", "direct_address", "comfyui_port_host", "input_dir", "output_dir",
        "model_dir", "startup_check_interval_s", "startup_check_max_tries",
        "always_restart_comfyui", "comfyui_hang_s", "shutdown_grace_s", "base",
    ),
    "what is installed first": ("manifest", "manifest_json"),
    "its log": ("log_format", "log_level"),
    "the API": (),
    "outgoing connections": (),
}  # fmt: skip
"""The order of the help. What is in no group is the API's, or a connection's by its prefix."""

_CONNECTIONS = ("aws_", "azure_", "hf_", "http_", "https_", "no_proxy")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line asks for.

    Attributes:
        variables: Variable → value, for all flags that were given.
        arguments: What is handed to ComfyUI.
        is_dry: Whether only to say what would be done.
        installs_only: Whether to end once everything is installed.
    """

    variables: Mapping[str, str]
    arguments: tuple[str, ...]
    is_dry: bool
    installs_only: bool


def parse(argv: Sequence[str]) -> Asked:
    """Read a command line; ends the process for ``--help``, ``--version`` and mistakes."""
    own, arguments = _divided(argv)
    given = vars(_parser().parse_args(own))
    is_dry, installs_only = given.pop("dry_run"), given.pop("install_only")
    variables = {name.upper(): value for name, value in given.items() if value is not None}
    return Asked(variables, arguments, is_dry, installs_only)


def _divided(argv: Sequence[str]) -> tuple[Sequence[str], tuple[str, ...]]:
    if "--" not in argv:
        return argv, ()
    at = argv.index("--")
    return argv[:at], tuple(argv[at + 1 :])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [FLAGS] [-- ARGUMENTS FOR COMFYUI]\n       {PROGRAM} workflow …",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and do nothing of it"
    )
    parser.add_argument(
        "--install-only",
        action="store_true",
        help="install what the manifest names before a start, and end: for the building of images",
    )
    groups = {title: parser.add_argument_group(title) for title in GROUPS}
    for title, name, field in _fields():
        _add(groups[title], name, field)
    return parser


def _fields() -> Iterator[tuple[str, str, FieldInfo]]:
    """Yield every setting with the title of its group, in the order of the help."""
    kinds: tuple[type[BaseSettings], ...] = (LauncherSettings, Settings)
    fields = {name: field for kind in kinds for name, field in kind.model_fields.items()}
    for title, names in GROUPS.items():
        yield from ((title, name, fields.pop(name)) for name in names)
    for name, field in fields.items():
        is_connection = name.startswith(_CONNECTIONS)
        yield ("outgoing connections" if is_connection else "the API"), name, field


def _add(group: argparse._ArgumentGroup, name: str, field: FieldInfo) -> None:
    flag = f"--{name.replace('_', '-')}"
    text = _text(field)
    if field.annotation is bool:
        group.add_argument(flag, nargs="?", const="true", metavar="true|false", help=text)
    else:
        group.add_argument(flag, metavar=_metavar(field), help=text)


def _text(field: FieldInfo) -> str:
    default = str(field.default)
    shown = {"None": "", "False": " [false]", "True": " [true]"}.get(default, f" [{default}]")
    return f"{field.description}{shown}".replace("%", "%%")


def _metavar(field: FieldInfo) -> str:
    if typing.get_origin(field.annotation) is typing.Literal:
        return "|".join(typing.get_args(field.annotation))
    kind = next(k for k in (*typing.get_args(field.annotation), field.annotation) if k is not None)
    names = {int: "N", float: "NUMBER"}
    if kind in names:
        return names[kind]
    return "PATH" if "Path" in repr(kind) else "TEXT"
