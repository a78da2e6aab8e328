"""Writes files to repositories of the Hub, with the Hub's own library."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import MissingDependency, StorageError, TransferFailed
from .base import Cancel
from .hub import HubFile, error_of_code, error_of_status
from .vendors import hush, until_done


def commit(
    place: HubFile, bodies: Mapping[str, bytes | Path], token: str | None, cancel: Cancel
) -> None:
    """Write files to the repository and revision of ``place``, in one commit.

    Once it is cancelled nothing is waited for any more, and no commit is begun; one that is on its
    way then may still come about.

    Args:
        bodies: By path in the repository.

    Raises:
        ObjectNotFound: There is no such repository or revision.
        AccessDenied, TransferFailed, MissingDependency: As it is.
        Cancelled: It was cancelled.
    """
    hub = _library()
    with _translated(hub.errors, f"{place.endpoint}/{place.repo}"):
        until_done(lambda: _commit(hub, place, bodies, token, cancel), cancel)


def _commit(
    hub: Any,
    place: HubFile,
    bodies: Mapping[str, bytes | Path],
    token: str | None,
    cancel: Cancel,
) -> None:
    # False is no token at all; None would be that of who is logged in.
    api = hub.HfApi(endpoint=place.endpoint, token=token or False)
    additions = [hub.CommitOperationAdd(path, body) for path, body in bodies.items()]
    where = {
        "repo_id": place.repo,
        "repo_type": place.kind.removesuffix("s"),
        "revision": place.revision,
    }
    api.preupload_lfs_files(additions=additions, free_memory=False, **where)
    cancel.check()
    api.create_commit(operations=additions, commit_message=_message(list(bodies)), **where)


def _message(paths: Sequence[str]) -> str:
    return f"Add {len(paths)} outputs" if len(paths) > 1 else f"Add {paths[0]}"


def _library() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise MissingDependency(
            "Uploads to the Hub need the Python package huggingface_hub: "
            "pip install huggingface_hub"
        ) from error
    hush("filelock", "huggingface_hub", "urllib3")
    for name in ("httpx", "httpx2"):
        # They write every URL down, signed ones too, as something that everybody wants to know.
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
    return huggingface_hub


@contextmanager
def _translated(errors: Any, place: str) -> Iterator[None]:
    """Turn the library's errors into ours. Their texts hold signed URLs, and are not passed on."""
    try:
        yield
    except RuntimeError as error:
        # It wraps what goes wrong with a large file.
        raise _translation(error.__cause__ or error, errors, place) from None
    except (errors.HTTPError, OSError, ValueError) as error:
        raise _translation(error, errors, place) from None


def _translation(error: BaseException, errors: Any, place: str) -> StorageError:
    codes = {
        errors.GatedRepoError: "GatedRepo",
        errors.RepositoryNotFoundError: "RepoNotFound",
        errors.RevisionNotFoundError: "RevisionNotFound",
    }
    for kind, code in codes.items():
        if isinstance(error, kind) and (found := error_of_code(code, place)):
            return found
    if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
        return error_of_status(error.response.status_code, place)
    if isinstance(error, ValueError):
        return StorageError(f"{place}: the Hub's library refuses the upload.")
    return TransferFailed(f"{place}: the upload broke off ({type(error).__name__}).")
