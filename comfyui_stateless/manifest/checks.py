"""What each text in a manifest has to look like; every function raises ``ValueError`` if not."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UnsupportedURL
from ..naming import redacted
from ..repositories import urls
from ..storage import policy
from ..storage.proxies import basic_authorization
from ..variables import from_home
from .entries import folder_name, shown_malformed

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.](:[a-z0-9-]+)?([=/][A-Za-z0-9.+:~_-]+)?")
_REGISTRY = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:@(?P<version>[A-Za-z0-9._+-]+))?")
_FOLDER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_. -]*")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_S3 = re.compile(r"s3://[^/\s?#]+/[^\s]+")
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tar.bz2", ".tgz")
_PATHS = ("./", "../", "/", "~/")
_VCS = re.compile(r"(?:(?:git|hg|svn|bzr)\+)?(?:https?|ssh|git|file)://[^\s/]*/\S+")


MAX_NAME = 255
MAX_PATH = 4000
"""Bytes: what Linux's file systems take, with some room for the folder that a path starts in."""


def apt_package(text: str) -> str:
    """Return the name of an apt package, perhaps with ``:arch``, ``=version`` or ``/release``."""
    if text.startswith("-"):
        raise ValueError(f"{shown_malformed(text)!r} is an option; only packages can be named here")
    if not _PACKAGE.fullmatch(text):
        raise ValueError(
            f"{shown_malformed(text)!r} is no apt package, such as ffmpeg or ffmpeg=7:5.1.6-0+deb12u1"
        )
    return text


def requirement(text: str) -> str:
    """Return what pip takes for a package: a requirement, a URL or a path; no option."""
    if text.startswith("-"):
        raise ValueError(
            f"{shown_malformed(text)!r} is an option; only packages can be named here. What options say "
            "can be said in variables, such as PIP_INDEX_URL and UV_INDEX_URL"
        )
    if not (_is_requirement(text) or _VCS.fullmatch(text) or _is_path(text)):
        raise ValueError(
            f"{shown_malformed(text)!r} is no requirement, such as name, name[extra]>=1.2, "
            "name @ https://…, or git+https://…@ref"
        )
    return text


def _is_requirement(text: str) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(text)
    except InvalidRequirement:
        return False
    return not text.endswith("\\")


def _is_path(text: str) -> bool:
    is_path = text.startswith(_PATHS) or text.endswith(_ARCHIVES)
    return is_path and not re.search(r"\s|\\|://", text)


@dataclass(frozen=True, slots=True)
class Node:
    """What the text of a custom node says; as the attributes of ``NodeEntry``."""

    text: str = field(repr=False)
    name: str
    clone_url: str | None = None
    ref: str | None = None
    login: str | None = field(default=None, repr=False)


def custom_node(text: str) -> Node:
    """Return what a custom node's text says."""
    if "://" in text:
        return _repository(text)
    if found := _REGISTRY.fullmatch(text):
        return Node(text, found["name"], None, found["version"])
    raise ValueError(
        f"{shown_malformed(text)!r} is no custom node: neither a name of the registry, such as name or "
        "name@1.2.3, nor the http:// or https:// URL of a repository"
    )


def _repository(text: str) -> Node:
    try:
        found = urls.parse(text)
    except UnsupportedURL as error:
        raise ValueError(
            f"{redacted(text)!r} is no repository: {error.message.rstrip('.')}"
        ) from None
    name = folder_name(found.clone_url)
    if not _FOLDER.fullmatch(name) or not name.strip("."):
        raise ValueError(f"{redacted(text)!r} ends in nothing that can name a folder")
    login = None
    if found.auth is not None:
        login = basic_authorization(found.auth.username, found.auth.password).get_secret_value()
    return Node(text, name, found.clone_url, found.ref, login)


def model_url(text: str) -> str:
    """Return a URL that a model can be downloaded from."""
    if text.startswith("s3://"):
        if not _S3.fullmatch(text):
            raise ValueError(f"{redacted(text)!r} is no object, such as s3://bucket/path/to/file")
        return text
    try:
        policy.parse(text)
    except UnsupportedURL:
        raise ValueError(
            f"{redacted(text)[:200]!r} is no URL, such as https://host/path or s3://bucket/key"
        ) from None
    return text


def local_path(text: str) -> str:
    """Return the path of a file."""
    if text.endswith("/") or text.rpartition("/")[2] in (".", "..", "~"):
        raise ValueError(f"{text!r} names a folder; it has to end in the name of the file")
    from_home(Path(text))
    if len(text.encode()) > MAX_PATH or any(len(p.encode()) > MAX_NAME for p in text.split("/")):
        raise ValueError(f"it is longer than {MAX_PATH} bytes, or a name in it than {MAX_NAME}")
    return text


def sha256(text: str) -> str:
    """Return a SHA-256 in lower-case hex."""
    if not _SHA256.fullmatch(text):
        raise ValueError("it is no SHA-256: 64 hexadecimal digits")
    return text.lower()
