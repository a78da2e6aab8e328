"""The ComfyUI that is to be started: what its version takes, and the command for it."""

from __future__ import annotations

import argparse
import ast
import json
import logging
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from ..errors import ConfigError
from .settings import Configuration, LauncherSettings, split_command

log = logging.getLogger("comfyui_stateless.launcher")

PATHS_FILE = "model_paths.yaml"

ANYWHERE = ("0.0.0.0", "::")  # noqa: S104  nothing is bound to them here
"""Addresses of a ComfyUI that is found at any."""

_VERBOSITY = {
    "trace": "DEBUG", "debug": "DEBUG", "warn": "WARNING", "error": "ERROR", "fatal": "CRITICAL",
}  # fmt: skip
"""ComfyUI's word for a LOG_LEVEL; without one it logs what ``info`` does."""


def words(configuration: Configuration, more: Sequence[str], scratch: Path) -> list[str]:
    """Return the command that starts ComfyUI.

    Args:
        more: Arguments of the operator's for main.py.
        scratch: Where ``lay_out`` writes a file that the command may need.

    Raises:
        ConfigError: ComfyUI's source cannot be read, or the launcher would not find it by ``more``.
    """
    settings = configuration.launcher
    if settings.cmd is not None:
        return split_command(settings.cmd)
    _require_findable(settings, more)
    known = flags(settings.comfy_home)
    command = [sys.executable, str(settings.comfy_home / "main.py")]
    command += ["--listen", settings.direct_address, "--port", str(settings.comfyui_port_host)]
    for flag, *value in _wished(configuration, known):
        if flag in known and flag not in more:
            command += [flag, *value]
    if settings.model_dir is not None and "--models-directory" not in known:
        command += ["--extra-model-paths-config", str(scratch / PATHS_FILE)]
    return [*command, *more]


def base_directory(arguments: Sequence[str]) -> Path | None:
    """Return the folder that ComfyUI is told to have its folders in, None for its own."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--base-directory", type=Path)
    found: Path | None = parser.parse_known_args(arguments)[0].base_directory
    return found


def _require_findable(settings: LauncherSettings, arguments: Sequence[str]) -> None:
    """See that no argument has ComfyUI listen where the launcher does not look for it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--port")
    parser.add_argument("--listen", nargs="?", const=ANYWHERE[0])
    for name in ("--tls-keyfile", "--tls-certfile"):
        parser.add_argument(name)
    try:
        asked = parser.parse_known_args(arguments)[0]
    except argparse.ArgumentError:
        return  # ComfyUI says what is wrong with it
    if asked.tls_keyfile or asked.tls_certfile:
        raise ConfigError(
            "--tls-keyfile and --tls-certfile are for a ComfyUI that clients connect to, and here the "
            "launcher does, without TLS. Leave them out, and have TLS end in front of PORT."
        )
    port, address = str(settings.comfyui_port_host), settings.direct_address
    if asked.port not in (None, port):
        raise ConfigError(
            f"--port {asked.port}: the launcher looks for ComfyUI at {port}. Set COMFYUI_PORT_HOST "
            "instead; PORT is the launcher's own."
        )
    if asked.listen is not None and not {address, *ANYWHERE} & set(asked.listen.split(",")):
        raise ConfigError(
            f"--listen {asked.listen}: the launcher looks for ComfyUI at {address}. Set "
            "DIRECT_ADDRESS instead; HOST is the launcher's own."
        )


def lacks() -> list[str]:
    """Return what ComfyUI cannot start without and this Python does not have."""
    return [name for name in ("torch", "numpy", "PIL") if find_spec(name) is None]


def _wished(configuration: Configuration, known: frozenset[str]) -> Iterator[list[str]]:
    """Yield the flags that are passed where ComfyUI knows them, with their values."""
    settings, extension = configuration.launcher, configuration.extension
    yield ["--disable-auto-launch"]
    yield ["--disable-assets"]
    yield ["--max-upload-size", f"{extension.max_body_size_mb:g}"]
    folders = {
        "--input-directory": settings.input_dir,
        "--output-directory": settings.output_dir,
        "--models-directory": settings.model_dir,
    }
    for flag, folder in folders.items():
        if folder is not None:
            yield [flag, str(folder)]
    if verbosity := _VERBOSITY.get(extension.log_level):
        yield ["--verbose", verbosity]
    if is_cpu_build():
        yield ["--cpu"]


def lay_out(settings: LauncherSettings, scratch: Path) -> None:
    """Make the folders that ComfyUI is told of, and the file that says where models are.

    Raises:
        ConfigError: One cannot be made.
    """
    try:
        for folder in (settings.input_dir, settings.output_dir, settings.model_dir):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
        if settings.cmd is None and settings.model_dir is not None:
            paths = _paths(settings.comfy_home, settings.model_dir)
            # JSON is YAML too.
            (scratch / PATHS_FILE).write_text(json.dumps(paths, indent=1), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be made: {error.strerror}.") from error


def flags(home: Path) -> frozenset[str]:
    """Return the flags that the main.py of a ComfyUI takes.

    They are read from its source: asking its ``--help`` would import torch, for seconds.

    Raises:
        ConfigError: The source cannot be read.
    """
    calls = (c for c in ast.walk(_source(home / "comfy" / "cli_args.py")) if _adds_argument(c))
    texts = (a.value for c in calls for a in ast.walk(c) if isinstance(a, ast.Constant))
    return frozenset(t for t in texts if isinstance(t, str) and t.startswith("--"))


def _adds_argument(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"


def _source(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read: is this a ComfyUI? {error}.") from error


def is_cpu_build() -> bool:
    """Say whether this Python's torch can use no GPU whatever the machine has.

    ComfyUI does not start with one unless it is told ``--cpu``.
    """
    found = find_spec("torch") if sys.platform == "linux" else None
    if found is None or found.origin is None:
        return False
    version = Path(found.origin).with_name("version.py")
    build = runpy.run_path(str(version)) if version.is_file() else {"cuda": "unknown"}
    return not any(build.get(name) for name in ("cuda", "hip", "xpu"))


def _paths(home: Path, models: Path) -> Mapping[str, Mapping[str, str | bool]]:
    """Return where models are, as ``--extra-model-paths-config`` takes it."""
    others = (folder.name for folder in models.iterdir() if folder.is_dir())
    names = {**{name: [name] for name in others}, **model_folders(home)}
    paths = {name: "\n".join(subfolders) for name, subfolders in names.items()}
    return {"model_dir": {"base_path": str(models), "is_default": True, **paths}}


def model_folders(home: Path) -> Mapping[str, list[str]]:
    """Return ComfyUI's own model folders, each with its subfolders of ``models``.

    Raises:
        ConfigError: The source cannot be read.
    """
    found = {}
    for node in _source(home / "folder_paths.py").body:
        if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript)):
            continue
        target, key = node.targets[0].value, node.targets[0].slice
        subfolders = list(_below_models(node.value))
        is_a_folder = isinstance(key, ast.Constant) and bool(subfolders)
        if is_a_folder and ast.unparse(target) == "folder_names_and_paths":
            found[ast.literal_eval(key)] = subfolders
    return found


def _below_models(node: ast.AST) -> Iterator[str]:
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call).startswith("os.path.join(models_dir,"):
            parts = [a.value for a in call.args[1:] if isinstance(a, ast.Constant)]
            yield "/".join(str(part) for part in parts)
