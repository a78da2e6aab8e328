"""The clones of this process: each repository is cloned once, and stays."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

from pydantic import SecretStr

from ..config import Proxies
from ..naming import safe_id
from ..storage.auth import Auth, Credential, auth_for
from ..storage.base import Cancel
from ..storage.connections import Client
from .access import located
from .urls import RepositoryURL, parse

ABANDONED_AFTER_S = 24 * 3600
"""Age from which an unfinished clone is deleted at the start: whoever made it is dead."""

KEY_LENGTH = 32
HASH_LENGTH = 8


class Clone(NamedTuple):
    """A repository's files.

    Attributes:
        name: For people: the repository's, with a part of the hash of its URL.
        path: The folder.
    """

    name: str
    path: Path


class Repositories:
    """Repositories by URL. What was cloned with a request's credentials is kept for those alone,
    and given out only while the server still takes them.

    Args:
        folder: Where the clones are.
        client: Decides where to connect.
        proxies: Those of ``client``.
    """

    def __init__(self, folder: Path, client: Client, proxies: Proxies) -> None:
        self._folder = folder
        self._client = client
        self._proxies = proxies
        self._locks: dict[str, asyncio.Lock] = {}

    async def start(self) -> None:
        """Delete what dead processes left unfinished."""
        await asyncio.to_thread(self._sweep)

    async def get(self, url: str, credentials: Sequence[Credential] = ()) -> Clone:
        """Return the clone of a repository, cloned unless it is there. Cancel the call to leave.

        Raises:
            StorageError: It cannot be had.
        """
        repository = parse(url)
        auth = auth_for(url, credentials) or repository.auth
        key = _key(url, auth)
        path = self._folder / key
        async with self._locks.setdefault(key, asyncio.Lock()):
            await _in_thread(lambda cancel: self._bring(repository, path, auth, cancel))
        return Clone(f"{_name(repository)}-{key[:HASH_LENGTH]}", path)

    def _bring(
        self, repository: RepositoryURL, path: Path, auth: Auth | None, cancel: Cancel
    ) -> None:
        if path.is_dir():
            if auth is not None:
                located(repository.clone_url, auth, self._client, cancel)
            return
        from .clone import clone  # late: it runs git, which few requests need

        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            clone(repository, path, self._client, self._proxies, auth, cancel)
        except OSError:
            if not path.is_dir():  # another process was quicker
                raise

    def _sweep(self) -> None:
        for path in self._folder.glob("*.part"):
            if time.time() - path.stat().st_mtime > ABANDONED_AFTER_S:
                shutil.rmtree(path, ignore_errors=True)


async def _in_thread(work: Callable[[Cancel], None]) -> None:
    cancel = Cancel()
    running = asyncio.ensure_future(asyncio.to_thread(work, cancel))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        cancel.cancel()
        await asyncio.gather(running, return_exceptions=True)
        raise


def _key(url: str, auth: Auth | None) -> str:
    digest = hashlib.sha256(url.encode())
    if auth is not None:
        for name, value in sorted(auth):
            secret = value.get_secret_value() if isinstance(value, SecretStr) else value
            digest.update(f"\0{name}={secret}".encode())
    return base64.urlsafe_b64encode(digest.digest()).decode()[:KEY_LENGTH]


def _name(repository: RepositoryURL) -> str:
    name = unquote(PurePosixPath(repository.clone_url).name).removesuffix(".git")
    return safe_id(name) or "repository"
