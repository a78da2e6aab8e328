"""Which model folders a list of options was made from: probes among the files that ComfyUI lists.

While a node class says what inputs it has, one thread sees made-up files in every model folder.
Where such a name turns up, the folder it came from is known, whatever the class is called and
however it filters, sorts or renames.

Seen are lists from ``folder_paths.get_filename_list`` and from the disk below
``folder_paths.get_folder_paths``. Not seen are lists that a pack makes when it is imported or
keeps for good (a new file would not appear in them either), and those of folders that ComfyUI
does not know.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import folder_paths

EXTENSIONS = frozenset(
    {
        ".bin", ".ckpt", ".engine", ".gguf", ".json", ".onnx", ".pkl", ".pt", ".pt2", ".pth",
        ".safetensors", ".sft", ".torchscript", ".yaml",
    }
)  # fmt: skip
"""Extensions that packs filter by, beside those that a folder lists."""

_FILE = re.compile(r"zzstatelessfile(\d+)zz", re.IGNORECASE)
_FOLDER = re.compile(r"zzstatelessfolder(\d+)zz/?$", re.IGNORECASE)

Listing = tuple[list[str], dict[str, float], float]
"""What ComfyUI keeps of a model folder: file names, folders with their times, a time."""


class Probe:
    """Puts made-up files and folders into all model folders, for the eyes of one thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: list[str] = []
        self._thread: int | None = None
        self._disk: Path | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the probes to this thread; every other one, and ComfyUI's caches, see none."""
        with self._lock, self._watching():
            try:
                yield
            finally:
                if self._disk is not None:
                    shutil.rmtree(self._disk, ignore_errors=True)
                self._disk = None

    def files(self, text: str) -> list[str]:
        """Return the model folders whose made-up files are named in ``text``."""
        return [self._names[int(number)] for number in _FILE.findall(text)]

    def folders(self, text: str) -> list[str]:
        """Return the model folder whose made-up folder ``text`` is the path of, if any."""
        return [self._names[int(number)] for number in _FOLDER.findall(text.replace("\\", "/"))]

    def _listed(self, original: Callable[..., list[str]], folder_name: str) -> list[str]:
        """See that a list has probes that comes from a function which a pack put in place."""
        real = original(folder_name)
        if not self._is_watching() or any(map(self.files, real)):
            return real
        return [*self._made_up(folder_name), *real]

    def _cached(self, original: Callable[..., Listing | None], folder_name: str) -> Listing | None:
        known = original(folder_name)
        if not self._is_watching():
            return known
        real, *rest = known or folder_paths.get_filename_list_(folder_name)
        return [*self._made_up(folder_name), *real], *rest

    def _folder_paths(self, original: Callable[..., list[str]], folder_name: str) -> list[str]:
        real = original(folder_name)
        if self._is_watching():
            with contextlib.suppress(OSError):  # without a place for it, what is real will do
                return [str(self._on_disk(folder_name)), *real]
        return real

    def _cache_set(self, original: Callable[[str, Any], None], key: str, value: Any) -> None:
        if not self._is_watching():
            original(key, value)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        self._thread = threading.get_ident()
        try:
            with (
                _replaced(folder_paths, "get_filename_list", self._listed),
                _replaced(folder_paths, "cached_filename_list_", self._cached),
                _replaced(folder_paths, "get_folder_paths", self._folder_paths),
                _replaced(folder_paths.cache_helper, "set", self._cache_set),
            ):
                yield
        finally:
            self._thread = None

    def _is_watching(self) -> bool:
        return self._thread == threading.get_ident()

    def _made_up(self, folder: str) -> list[str]:
        number = self._number(folder)
        listed = folder_paths.folder_names_and_paths[folder_paths.map_legacy(folder)][1]
        endings = EXTENSIONS | {ending for ending in listed if ending[:1] in ("", ".")}
        return [f"zzstatelessfile{number}zz{ending}" for ending in sorted(endings)]

    def _on_disk(self, folder: str) -> Path:
        if self._disk is None:
            self._disk = Path(tempfile.mkdtemp(prefix="stateless-probe-"))
        root = self._disk / str(self._number(folder))
        if not root.exists():
            repository = root / f"zzstatelessfolder{root.name}zz"
            repository.mkdir(parents=True)
            (repository / "model_index.json").touch()
            for name in self._made_up(folder):
                (root / name).touch()
        return root

    def _number(self, folder: str) -> int:
        name = folder_paths.map_legacy(folder)
        if name not in self._names:
            self._names.append(name)
        return self._names.index(name)


@contextmanager
def _replaced(owner: Any, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
    """Have calls of a function go through ``replacement``, which gets the function first."""
    original = getattr(owner, name)
    is_own = name in vars(owner)

    def through(*args: Any, **kwargs: Any) -> Any:
        return replacement(original, *args, **kwargs)

    setattr(owner, name, through)
    try:
        yield
    finally:
        if getattr(owner, name) is through:  # else somebody has wrapped it, and it does nothing
            setattr(owner, name, original) if is_own else delattr(owner, name)
