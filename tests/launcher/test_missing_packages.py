"""The command without packages that it needs: it says which, and how to get them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]

PROGRAM = """
import sys
from importlib.machinery import PathFinder

class Gate(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        found = name.partition(".")[0] == {missing!r}
        return None if found else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Gate
from comfyui_stateless.launcher.cli import main
sys.exit(main(sys.argv[1:]))
"""


def without(missing: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a Python that lacks a package."""
    (folder / "main.py").write_text("raise SystemExit(0)")
    (folder / "comfy").mkdir()
    (folder / "comfy" / "cli_args.py").write_text("")
    (folder / "manifest.yaml").write_text("pip: [numpy]\n")
    command = [sys.executable, "-c", PROGRAM.format(missing=missing), "--comfy-home", str(folder)]
    return subprocess.run(
        [*command, *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("missing", ["pydantic_settings", "yaml", "packaging"])
def test_it_names_the_package_and_what_brings_all(missing: str, tmp_path: Path) -> None:
    done = without(missing, tmp_path, "--dry-run", "--manifest", f"{tmp_path}/manifest.yaml")
    assert done.returncode == 2
    assert done.stderr == (
        f"comfyui-stateless: No module named '{missing}'. Get what it needs: "
        f"{sys.executable} -m pip install -r {CHECKOUT}/requirements.txt\n"
    )


def test_without_progress_bars_it_works(tmp_path: Path) -> None:
    done = without("tqdm", tmp_path, "--dry-run", "--manifest", f"{tmp_path}/manifest.yaml")
    assert done.returncode == 0, done.stderr
    assert "pip: numpy" in done.stdout
