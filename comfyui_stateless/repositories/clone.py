"""Clones a repository: as shallow as its server allows, whole or not at all."""

from __future__ import annotations

import re
import secrets
import shutil
from pathlib import Path

from ..config import Proxies
from ..errors import ObjectNotFound
from ..storage.auth import Auth
from ..storage.base import Cancel
from ..storage.connections import Client
from ..storage.proxies import proxy_for
from .access import Place, located, told_of
from .git import Git
from .large import fetch_large_files
from .urls import RepositoryURL

_COMMIT = re.compile(r"[0-9a-f]{7,40}|[0-9a-f]{64}", re.IGNORECASE)


def clone(
    repository: RepositoryURL,
    target: Path,
    client: Client,
    proxies: Proxies,
    auth: Auth | None,
    cancel: Cancel,
) -> None:
    """Bring a repository's files to ``target``, a folder that is not there yet. It blocks.

    Submodules are left out, symbolic links become files that hold their target's name, and large
    files come from the repository's own LFS server.

    Args:
        client: Decides where to connect, and makes every request but git's, which is pinned.
        proxies: Those of ``client``.
        auth: The request's own credentials; else those in the URL count.

    Raises:
        HostRefused, UnsupportedURL: The policy says no, or git can do nothing with ``auth``.
        ObjectNotFound: There is no such repository, branch, tag or commit.
        WrongContent: A large file is not what the repository says.
        AccessDenied, TransferFailed, NoSpace, MissingDependency: As it is.
        Cancelled: It was cancelled.
    """
    place = located(repository.clone_url, auth or repository.auth, client, cancel)
    partial = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    partial.mkdir(parents=True)
    try:
        with told_of(place.target.redacted):
            git = Git(partial, _settings(place, client, proxies), cancel)
            _check_out(git, place, repository.ref)
        fetch_large_files(partial, place, client, cancel)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _settings(place: Place, client: Client, proxies: Proxies) -> tuple[tuple[str, str], ...]:
    target = place.target
    settings = [
        (f"http.{target.url}.extraHeader", f"{name}: {value.get_secret_value()}")
        for name, value in place.headers.items()
    ]
    if proxy_for(target, proxies) is None:
        addresses = ",".join(client.policy.addresses(target))
        settings.append(("http.curloptResolve", f"{target.host}:{target.port}:{addresses}"))
        settings.append(("http.proxy", ""))
    else:
        proxy = proxies.https if target.scheme == "https" else proxies.http
        settings.append(("http.proxy", proxy.get_secret_value() if proxy else ""))
    return tuple(settings)


def _check_out(git: Git, place: Place, ref: str | None) -> None:
    git.check_version()
    git.run("init", "--quiet", "--template=")
    git.run("remote", "add", "origin", place.target.url)
    try:
        commit = _fetched(git, ref or "HEAD")
        git.run("checkout", "--quiet", "--detach", f"{commit}^{{commit}}", "--")
    except ObjectNotFound:
        found = f"has no branch, tag or commit {ref}" if ref else "is empty"
        raise ObjectNotFound(f"the repository {found}.") from None


def _fetched(git: Git, ref: str) -> str:
    """Fetch as little as the server lets us; return what the commit is called here."""
    try:
        git.run("fetch", "--quiet", "--depth=1", "--no-tags", "origin", ref)
    except ObjectNotFound:
        if not _COMMIT.fullmatch(ref):
            raise
        # A server may give no commit by its hash, and none gives one by the start of its hash.
        git.run("fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*")
        return ref
    return "FETCH_HEAD"
