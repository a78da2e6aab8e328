"""What is installed in the Python that runs ComfyUI, asked of that Python itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..errors import InstallationFailed
from .commands import Command, run

_PROBE = """
import importlib.metadata as metadata, json, platform, sys
found = {}
for each in metadata.distributions():
    name = each.metadata["Name"]
    if name and name not in found:
        found[name] = [each.version, each.read_text("direct_url.json")]
print("\\n" + json.dumps({
    "prefix": sys.prefix,
    "found": found,
    "markers": {
        "implementation_name": sys.implementation.name,
        "platform_python_implementation": platform.python_implementation(),
        "python_full_version": platform.python_version(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
    },
}))
"""

_COMMENT = re.compile(r"(^|\s)#.*$")
_NAME = re.compile(r"[-_.]+")


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python and its packages.

    Attributes:
        prefix: The environment's folder.
        versions: By name in its normal form.
        origins: The URL, and the revision if it has any, of what came from no index.
        markers: What requirements may depend on, where it is not as in our own Python.
    """

    prefix: Path
    versions: Mapping[str, str]
    origins: frozenset[tuple[str, str | None]]
    markers: Mapping[str, str]

    def has(self, text: str, folder: Path) -> bool | None:
        """Say whether a requirement is met; None where only an installer can tell.

        Args:
            folder: Where relative paths start.
        """
        from packaging.requirements import InvalidRequirement, Requirement

        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            return origin_of(text, folder) in self.origins
        if wanted.marker is not None and not wanted.marker.evaluate(dict(self.markers)):
            return True
        version = self.versions.get(_normal(wanted.name))
        if version is None:
            return False
        if wanted.url is not None:
            return origin_of(wanted.url, folder) in self.origins
        if not wanted.specifier.contains(version, prereleases=True):
            return False
        return None if wanted.extras else True

    def has_all(self, texts: Iterable[str], folder: Path) -> bool | None:
        """Say whether all requirements are met; None where only an installer can tell."""
        answers = [self.has(text, folder) for text in texts]
        if False in answers:
            return False
        return None if None in answers else True


async def look_into(python: Path) -> Environment:
    """Return what a Python has.

    Raises:
        InstallationFailed: It does not run.
    """
    output = await run(Command([str(python), "-c", _PROBE], variables={"PYTHONPATH": ""}))
    if output.code != 0:
        raise InstallationFailed(f"ComfyUI's Python, {python}, {output.ending}")
    said: dict[str, Any] = json.loads(output.lines[-1])
    versions = {_normal(name): version for name, (version, _) in said["found"].items()}
    urls = (json.loads(text) for _, text in said["found"].values() if text)
    origins = frozenset((_plain(u["url"]), _revision(u)) for u in urls)
    return Environment(Path(said["prefix"]), versions, origins, said["markers"])


class Watched:
    """A Python's packages, asked for when they may have changed.

    Args:
        python: The Python.
    """

    def __init__(self, python: Path) -> None:
        self._python = python
        self._known: Environment | None = None

    async def now(self) -> Environment:
        """Return what it has.

        Raises:
            InstallationFailed: It does not run.
        """
        if self._known is None:
            self._known = await look_into(self._python)
        return self._known

    def changed(self) -> None:
        """Something was installed."""
        self._known = None


def requirements_in(content: str) -> list[str] | None:
    """Return the requirements of a requirements.txt; None where it has more than such."""
    lines = [_COMMENT.sub("", line).strip() for line in content.splitlines()]
    lines = [line for line in lines if line]
    has_more = any(line.startswith("-") or line.endswith("\\") or " --" in line for line in lines)
    return None if has_more else lines


def origin_of(text: str, folder: Path) -> tuple[str, str | None]:
    """Return what PEP 610 notes of a package from a URL or a path: the URL, and a revision."""
    if "://" not in text:
        return (folder / Path(text).expanduser()).resolve().as_uri(), None
    kind, plus, url = text.partition("+")
    if not plus or "://" in kind:
        return _plain(text), None
    place, at, revision = url.partition("#")[0].rpartition("@")
    if not at or "/" not in place.partition("://")[2]:
        return _plain(url), None
    return _plain(place), revision


def _plain(url: str) -> str:
    parts = urlsplit(url)
    return unquote(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def _revision(direct_url: Mapping[str, Any]) -> str | None:
    revision = direct_url.get("vcs_info", {}).get("requested_revision")
    return None if revision is None else str(revision)


def _normal(name: str) -> str:
    return _NAME.sub("-", name).lower()
