"""A ComfyUI to run the extension in: which Python it has, and the link in its custom nodes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from docker import releases
from docker.checkout import Checkout
from docker.environments import Environment
from docker.steps import Console, SetupError

LINK_NAME = "comfyui-stateless"

# Run in a user's Python: prints the requirements among its arguments that are not met there.
UNMET = """
import sys
from importlib.metadata import PackageNotFoundError, version
from packaging.requirements import Requirement

for line in sys.argv[1:]:
    requirement = Requirement(line)
    try:
        met = requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        met = False
    if not met:
        print(line)
"""


@dataclass(frozen=True)
class Prepared:
    """A ComfyUI that the extension is linked into, and the Python that runs it."""

    version: str
    home: Path
    python: Path


def prepare_release(checkout: Checkout, version: str, comfy_python: str | None) -> Prepared:
    """Get a pinned release into the checkout's store and make it ready to run."""
    home = checkout.store / version
    releases.get(version, home, checkout.console, lambda: checkout.ensure_base().python)
    return prepare_home(checkout, home, comfy_python)


def prepare_home(checkout: Checkout, home: Path, comfy_python: str | None) -> Prepared:
    """Make a ComfyUI ready to run: its Python, the requirements, the link to this checkout.

    Raises SetupError when there is no ComfyUI at `home`, or it cannot be made ready.
    """
    if not (home / "main.py").is_file() or not (home / "nodes.py").is_file():
        raise SetupError(f"there is no ComfyUI at {home} (COMFY_HOME): main.py is not there")
    python = _python_of(checkout, home, comfy_python)
    _link(checkout.root, home / "custom_nodes" / LINK_NAME, checkout.console)
    return Prepared(releases.version_of(home) or "unknown", home, python)


def _python_of(checkout: Checkout, home: Path, comfy_python: str | None) -> Path:
    own = _own_python(home, comfy_python)
    if own is not None:
        _meet_requirements(checkout, own)
        return own
    if home == checkout.store / releases.DEFAULT_VERSION:
        return checkout.ensure_in_base(home)
    return checkout.ensure_overlay(home)


def _own_python(home: Path, comfy_python: str | None) -> Path | None:
    """Return COMFY_PYTHON, or the Python of an environment inside the ComfyUI, or None."""
    if comfy_python:
        found = shutil.which(comfy_python)
        if found is None:
            raise SetupError(f"COMFY_PYTHON={comfy_python} is not a program that can be run")
        return Path(found).absolute()
    candidates = [Environment(home / name).python for name in (".venv", "venv")]
    return next((python for python in candidates if python.exists()), None)


def _meet_requirements(checkout: Checkout, python: Path) -> None:
    """Install what a user's own environment lacks of our requirements, and say so."""
    text = checkout.requirements.read_text(encoding="utf-8")
    wanted = [line for line in text.splitlines() if line and not line.startswith("#")]
    check = [str(python), "-c", UNMET, *wanted]
    result = subprocess.run(check, capture_output=True, text=True, check=False)
    unmet = result.stdout.splitlines() if result.returncode == 0 else wanted
    if unmet:
        with checkout.console.step(f"{', '.join(unmet)} for {python}"):
            checkout.console.run([python, "-m", "pip", "install", *unmet])


def _link(root: Path, link: Path, console: Console) -> None:
    """Make `link` lead to this checkout; a copy of the extension that is there stays."""
    if link.exists() and link.samefile(root):
        return
    if link.is_symlink():
        console.note(f"{link} led to {link.readlink()}, and now leads here")
        link.unlink()
    elif _is_ours(link):
        console.note(f"{link} is a copy of the extension: ComfyUI runs that one, not this checkout")
        return
    elif link.exists():
        raise SetupError(f"{link} is there and is not this extension: move it away")
    link.parent.mkdir(exist_ok=True)
    _make_link(link, root)


def _make_link(link: Path, root: Path) -> None:
    if sys.platform == "win32":
        import _winapi

        # A junction, unlike a symbolic link, needs no special right.
        _winapi.CreateJunction(str(root), str(link))
    else:
        link.symlink_to(root, target_is_directory=True)


def _is_ours(folder: Path) -> bool:
    try:
        text = (folder / "pyproject.toml").read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(rf'^name = "{LINK_NAME}"$', text, re.MULTILINE) is not None
