"""ComfyUI-Manager, which the tests run beside the extension: a package in a folder of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from docker.environments import key_of
from docker.steps import Console

# The manager, and what it imports and neither ComfyUI nor we bring. Without its dependencies: it
# wants uv, which only installs packages and is large, and would change what others have.
REQUIREMENTS = (
    "comfyui-manager==4.2.2",
    "GitPython==3.2.1",
    "gitdb==4.0.12",
    "smmap==5.0.3",
    "PyGithub==2.10.0",
    "PyJWT==2.15.1",
    "PyNaCl==1.6.2",
    "toml==0.10.2",
    "chardet==7.7.0",
    "nh3==0.3.8",
    "Deprecated==1.3.1",
    "wrapt==2.5.2",
)


def ensure(folder: Path, console: Console, python: Path) -> None:
    """Put the packages into `folder`, unless these very ones are there. `python` has pip.

    Raises SetupError when pip fails.
    """
    # Written last: without it a set-up broke off.
    stamp = folder / "installed"
    wanted = key_of(REQUIREMENTS)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    with console.step("ComfyUI-Manager"):
        shutil.rmtree(folder, ignore_errors=True)
        quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
        command: list[str | Path] = [
            python,
            "-m",
            "pip",
            "install",
            *quiet,
            "--no-deps",
            "--target",
            folder,
        ]
        console.run([*command, *REQUIREMENTS])
        stamp.write_text(wanted, encoding="utf-8")
