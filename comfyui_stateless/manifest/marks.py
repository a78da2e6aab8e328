"""What was done for a custom node, written down in its folder: so it is not done again."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from .entries import Place

NAME = ".comfyui-stateless.json"


@dataclass(frozen=True, slots=True)
class Mark:
    """What is known of a custom node.

    Attributes:
        digest: Of what was installed for it; None where that is not done.
        is_moving: Whether a checkout has begun and not ended.
        ref: The ref that was last checked out.
    """

    digest: str | None = None
    is_moving: bool = False
    ref: str | None = None


def read(folder: Path) -> Mark | None:
    """Return what is known of a custom node, None where we have not touched it."""
    with suppress(OSError, ValueError, TypeError):
        return Mark(**json.loads(_path(folder).read_text(encoding="utf-8")))
    return None


def write(folder: Path, mark: Mark) -> None:
    """Note what is known; a folder that cannot be written to is looked at again at each start."""
    path = _path(folder)
    half = path.with_suffix(".part")
    with suppress(OSError):
        half.write_text(json.dumps(asdict(mark)), encoding="utf-8")
        half.replace(path)


def digest(folder: Path, place: Place) -> str:
    """Return what stands for all that is installed for a custom node."""
    found = hashlib.sha256(str(place.python).encode())
    for name in ("requirements.txt", "install.py"):
        path = folder / name
        found.update(f"\0{name}\0".encode())
        found.update(path.read_bytes() if path.is_file() else b"")
    return found.hexdigest()


def _path(folder: Path) -> Path:
    """Return the mark's path: where it does not count as a change of the repository's files."""
    git = folder / ".git"
    return (git if git.is_dir() else folder) / NAME
