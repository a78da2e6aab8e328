"""What a manifest says: its entries, each with the line that it stands in."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from ..config import Settings
from ..naming import redacted

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")


def shown(text: str) -> str:
    """Return ``text`` with no user, password, query or fragment in the URLs that it holds."""
    return _URL.sub(lambda found: redacted(found[0]), text)


def shown_malformed(text: str) -> str:
    """Return ``text``, which is not what it has to be, so that a secret may stand anywhere in it.

    What a user and a password, a query or a fragment could be is left out.
    """
    plain = shown(text)
    user, _, host = plain.rpartition("@")
    found = plain if user in ("", "git") else f"…@{host}"
    place, mark, _ = found.replace("#", "?").partition("?")
    return f"{place}?…" if mark else place


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a list, as it is written; ``str`` shows it without secrets.

    Attributes:
        source: The manifest: a variable, or the path of a file.
        line: Where it stands, from 1 on.
        path: Where it stands, such as ``pip[2]``.
    """

    text: str = field(repr=False)
    source: str
    line: int
    path: str

    @property
    def where(self) -> str:
        """The place, for a message."""
        return f"{self.source}, line {self.line}, {self.path}"

    def __str__(self) -> str:
        return shown(self.text)


@dataclass(frozen=True, slots=True)
class NodeEntry(Entry):
    """A custom node: a name of the registry, or the URL of a repository.

    Attributes:
        name: The folder that a repository is cloned into; of a registry's node, its id.
        clone_url: Without secrets; None for a node of the registry.
        ref: A branch, a tag or a commit; of a registry's node, its version.
        login: The Authorization header that stood in the URL as user and password, if any.
    """

    name: str
    clone_url: str | None = None
    ref: str | None = None
    login: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        if self.login is None or self.clone_url is None:
            return shown(self.text)
        return self.clone_url + (f"@{self.ref}" if self.ref else "")


@dataclass(frozen=True, slots=True)
class ModelEntry(Entry):
    """A model; ``text`` is its URL.

    Attributes:
        local_path: As it is written.
        sha256: What the content has to hash to, in lower-case hex, if that was said.
    """

    local_path: str
    sha256: str | None = None

    def path_in(self, comfy_home: Path) -> Path:
        """Return where the file belongs: a relative path starts at ``comfy_home``."""
        return comfy_home / Path(self.local_path).expanduser()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an installation needs beside ComfyUI.

    Attributes:
        source: What it was read from, for messages.
        warnings: What was found in it that is not used, each with its line.
    """

    source: str
    apt: tuple[Entry, ...] = ()
    pip: tuple[Entry, ...] = ()
    custom_nodes: tuple[NodeEntry, ...] = ()
    before_start: tuple[ModelEntry, ...] = ()
    after_start: tuple[ModelEntry, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[ModelEntry, ...]:
        """All of them, whenever they are wanted."""
        return self.before_start + self.after_start


@dataclass(frozen=True, slots=True)
class Place:
    """Where a manifest is installed.

    Attributes:
        comfy_home: ComfyUI's folder.
        python: The Python that runs ComfyUI.
        settings: The operator's: the cache, proxies, credentials.
        custom_nodes: The folder that ComfyUI loads custom nodes from.
    """

    comfy_home: Path
    python: Path
    settings: Settings
    custom_nodes: Path


def folder_name(clone_url: str) -> str:
    """Return the name of the folder that a repository is cloned into."""
    return unquote(clone_url.rpartition("/")[2]).removesuffix(".git")
