"""Loading Python files from a folder of the operator's, beside everything else in the process.

Each endpoint gets a package of its own for the files beside it, so that equal names do not meet
and an edited file is read anew. ``import neighbour`` and ``from .neighbour import x`` both work,
and a neighbour goes before a module of ComfyUI's that has its name.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import itertools
import re
import sys
import weakref
from collections.abc import Mapping, Sequence
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

PUBLIC = "comfyui_stateless"
"""The name under which workflow files import this package."""

_PREFIX = "stateless_workflow_"
_numbers = itertools.count(1)


class Package:
    """The modules that one workflow file has loaded, itself among them.

    They stay in the process's table as long as this is in use.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = f"{_PREFIX}{next(_numbers)}"
        weakref.finalize(self, _forget, self.name)

    def load(self) -> ModuleType:
        """Run the file; return its module.

        Raises:
            BaseException: Whatever it raises.
        """
        _make_public()
        if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
            sys.meta_path.insert(0, _Finder())
        package = ModuleType(self.name)
        package.__path__ = [str(self._path.parent)]
        sys.modules[self.name] = package
        name = f"{self.name}.{re.sub(r'[^A-Za-z0-9_]', '_', self._path.stem)}"
        loader = _Loader(name, str(self._path))
        spec = importlib.util.spec_from_file_location(name, self._path, loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        loader.exec_module(module)
        return module

    def files(self) -> list[Path]:
        """Return the files of its modules."""
        loaded = [m for n, m in _modules().items() if n.startswith(f"{self.name}.")]
        return [Path(file) for m in loaded if (file := getattr(m, "__file__", None))]


def _modules() -> dict[str, ModuleType]:
    """Return the process's table as it is now.

    A list of its items would not do: making one may collect garbage, and so a package that takes
    its modules out of the table meanwhile.
    """
    return sys.modules.copy()


def _forget(package: str) -> None:
    """Take the modules of a package that nobody uses any more out of the process's table."""
    for name in _modules():
        if name == package or name.startswith(f"{package}."):
            sys.modules.pop(name, None)


class _Loader(SourceFileLoader):
    """Compiles what is in the file now, and never writes or trusts a compiled copy."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)

    def exec_module(self, module: ModuleType) -> None:
        folder = Path(self.path).parent
        own = {**vars(builtins), "__import__": _Importing(folder)}
        vars(module)["__builtins__"] = own
        super().exec_module(module)


class _Importing:
    """``__import__`` for the files of a folder: what lies beside them goes first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        is_beside = level == 0 and self._has(name.partition(".")[0])
        level = 1 if is_beside else level
        return builtins.__import__(name, globals, locals, fromlist or (), level)

    def _has(self, name: str) -> bool:
        return (self._folder / f"{name}.py").is_file() or (
            self._folder / name / "__init__.py"
        ).is_file()


class _Finder:
    """Finds the modules of our packages."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(_PREFIX) or path is None:
            return None
        for folder in path:
            found = FileFinder(folder, (_Loader, [".py"])).find_spec(fullname)
            if found is not None:
                return found
        return None


def _make_public() -> None:
    """Let ``import comfyui_stateless`` give this package; ComfyUI loads it under a path."""
    own = __name__.removesuffix(".workflows.code_loader")
    for name, module in _modules().items():
        if name == own or name.startswith(f"{own}."):
            sys.modules[PUBLIC + name[len(own) :]] = module
