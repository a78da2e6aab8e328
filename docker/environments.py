"""Virtual environments with a record of what was installed into them."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from docker.steps import Console, SetupError

STAMPS = "comfyui-stateless.json"
INTERPRETER = "interpreter"


@dataclass(frozen=True)
class Environment:
    """A virtual environment of the Python that runs this, with its record (the stamps)."""

    folder: Path

    @property
    def python(self) -> Path:
        if sys.platform == "win32":
            return self.folder / "Scripts" / "python.exe"
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        if sys.platform == "win32":
            return self.folder / "Lib" / "site-packages"
        major, minor = sys.version_info[:2]
        return self.folder / "lib" / f"python{major}.{minor}" / "site-packages"

    def stamps(self) -> dict[str, str]:
        """Return piece → key of everything that was installed to its end."""
        try:
            stamps: dict[str, str] = json.loads((self.folder / STAMPS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stamps

    def ensure(self, piece: str, key: str, install: Callable[[], None]) -> None:
        """Install a piece unless it is there under this very key.

        Its stamp goes before and comes back after: what was interrupted is done again.
        """
        stamps = self.stamps()
        if stamps.pop(piece, None) == key:
            return
        self._write(stamps)
        install()
        self._write({**stamps, piece: key})

    def make(self, console: Console, *, with_pip: bool) -> None:
        """Make the environment where it is missing or is another Python's."""
        here = f"{sys.implementation.cache_tag} {platform.machine()}"
        known = self.stamps().get(INTERPRETER)
        if known == here and self.python.exists():
            return
        # Only what was made here is cleared: a folder without our record may be the user's own.
        options = ["--clear"] if known else []
        if not with_pip:
            options.append("--without-pip")
        with console.step(f"a Python {platform.python_version()} environment in {self.folder}"):
            try:
                console.run([sys.executable, "-m", "venv", *options, self.folder])
            except SetupError as exc:
                hint = "On Debian and Ubuntu, Python's venv module is the package python3-venv."
                raise SetupError(f"{exc}\n  {hint}") from exc
        self._write({INTERPRETER: here})

    def pip_install(self, console: Console, options: Iterable[str | Path]) -> None:
        """Run `pip install` in the environment. Raises SetupError when it fails."""
        quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
        console.run([self.python, "-m", "pip", "install", *quiet, *options])

    def _write(self, stamps: dict[str, str]) -> None:
        partial = self.folder / f"{STAMPS}.partial"
        partial.write_text(json.dumps(stamps), encoding="utf-8")
        partial.replace(self.folder / STAMPS)


def key_of(parts: Iterable[str | Path]) -> str:
    """Return a key that changes with any of the texts, or with the content of any of the files."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode()
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
