"""Every module on the Python and the dependencies at hand: it compiles and imports without a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

# ComfyUI's own modules are stood in for: this is about our code, and some Pythons here have no ComfyUI.
PROGRAM = """
import importlib, pkgutil, sys, warnings
from types import ModuleType
from unittest.mock import MagicMock

COMFYUI = {"comfy", "comfy_execution", "comfyui_version", "execution", "folder_paths", "node_helpers",
           "nodes", "psutil", "server", "torch"}

class Pretended(ModuleType):
    __path__ = ()
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Exception,), {}) if name.endswith("Exception") else MagicMock()

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in COMFYUI:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
    def create_module(self, spec):
        return Pretended(spec.name)
    def exec_module(self, module):
        pass

sys.dont_write_bytecode = True
sys.meta_path.insert(0, Finder())
warnings.simplefilter("error")
import comfyui_stateless
for found in pkgutil.walk_packages(comfyui_stateless.__path__, "comfyui_stateless."):
    source = found.module_finder.find_spec(found.name).loader.get_source(found.name)
    compile(source, found.name, "exec")
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
    print(found.name)
"""


def test_every_module_compiles_and_imports_without_a_warning() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
    package = ROOT / "comfyui_stateless"
    assert len(done.stdout.splitlines()) == len(list(package.rglob("*.py"))) - 1
