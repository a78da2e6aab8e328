"""Custom nodes by the name that Comfy's registry has for them, through the ``comfy`` tool."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import suppress
from pathlib import Path

from .commands import Command, failed, proxy_variables, run
from .entries import NodeEntry, Place
from .git import label
from .progress import Report

PENDING = ".comfyui-stateless.pending.json"
"""In the folder of custom nodes: the one that is being installed, which was not there before."""

_FAILED = re.compile(r"^ERROR: An error occurred while installing", re.MULTILINE)
_FIELD = re.compile(r"""^(name|version)\s*=\s*["']([^"']+)["']""", re.MULTILINE)


def find(name: str, custom_nodes: Path) -> Path | None:
    """Return the folder of a registry's node, None where it is not there."""
    folders = _folders(custom_nodes)
    for folder in folders:
        if folder.name.lower() == name.lower():
            return folder
    return next((folder for folder in folders if _said(folder)[0] == name.lower()), None)


def is_there(entry: NodeEntry, custom_nodes: Path) -> bool:
    """Say whether a registry's node is installed, in the wanted version if one is."""
    folder = find(entry.name, custom_nodes)
    if folder is None or entry.ref in (None, "latest", "nightly", "unknown"):
        return folder is not None
    return _said(folder)[1] == entry.ref


async def install(entry: NodeEntry, place: Place, prefix: Path, report: Report) -> Path:
    """Install a registry's node; return its folder.

    Args:
        prefix: The folder of ComfyUI's Python environment.

    Raises:
        InstallationFailed: It cannot be had, or there is no ``comfy``.
    """
    comfy = shutil.which("comfy")
    if comfy is None:
        reason = (
            "a custom node by its name needs the tool comfy, and there is none on PATH; install "
            "comfy-cli and comfyui-manager, or name the URL of its repository"
        )
        raise failed([entry], reason)
    was_there = find(entry.name, place.custom_nodes) is not None
    try:
        if not was_there:
            _pending(place).write_text(json.dumps(entry.name), encoding="utf-8")
        await _install(comfy, entry, place, prefix, report)
    except BaseException:
        forget_half_done(place)
        raise
    _pending(place).unlink(missing_ok=True)
    found = find(entry.name, place.custom_nodes)
    assert found is not None
    return found


async def _install(
    comfy: str, entry: NodeEntry, place: Place, prefix: Path, report: Report
) -> None:
    # Without --exit-on-fail comfy ends with 0 whatever happens, and with it after some failures.
    command = Command(
        [comfy, "--workspace", str(place.comfy_home), "--skip-prompt",
         "node", "install", "--exit-on-fail", entry.text],
        place.comfy_home,
        _variables(place, prefix),
    )  # fmt: skip
    output = await run(command, label(entry), report)
    if output.code != 0 or _FAILED.search(output.text):
        raise failed([entry], f"comfy node install {output.ending}")
    if not is_there(entry, place.custom_nodes):
        reason = f"comfy has not put it into {place.custom_nodes}; it {output.ending}"
        raise failed([entry], reason)


def _variables(place: Place, prefix: Path) -> dict[str, str]:
    """Return what makes comfy ask nothing, tell nobody, and install into ComfyUI's Python."""
    is_virtual = (prefix / "pyvenv.cfg").is_file()
    return {
        "COMFY_NO_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "VIRTUAL_ENV": str(prefix) if is_virtual else "",
        "CONDA_PREFIX": "" if is_virtual else str(prefix),
        **proxy_variables(place.settings),
    }


def forget_half_done(place: Place) -> None:
    """Remove what an installation that was cut off has left of a node that was not there before."""
    pending = _pending(place)
    if not pending.is_file():
        return
    with suppress(ValueError):
        folder = find(str(json.loads(pending.read_text(encoding="utf-8"))), place.custom_nodes)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    pending.unlink(missing_ok=True)


def _pending(place: Place) -> Path:
    return place.custom_nodes / PENDING


def _folders(custom_nodes: Path) -> list[Path]:
    if not custom_nodes.is_dir():
        return []
    found = (path for path in sorted(custom_nodes.iterdir()) if path.is_dir())
    return [path for path in found if path.suffix != ".disabled" and any(path.iterdir())]


def _said(folder: Path) -> tuple[str | None, str | None]:
    """Return the name and the version that a node's pyproject.toml says."""
    with suppress(OSError, UnicodeDecodeError):
        text = (folder / "pyproject.toml").read_text(encoding="utf-8")
        said = dict(reversed(_FIELD.findall(text)))
        return said.get("name", "").lower() or None, said.get("version")
    return None, None
