"""Moves files from and to Xet, the Hub's own storage, with its own client: hf_xet."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..naming import redacted
from .base import Cancel, Digest
from .hub import HubFile, bearer
from .vendors import until_done

_log = logging.getLogger("comfyui_stateless.storage")

Progress = Callable[[int, int | None], None]


class XetFile(NamedTuple):
    """What the Hub says of a file that lies in Xet; ``size`` is in bytes."""

    xet_hash: str
    size: int
    digest: Digest

    @classmethod
    def of(cls, answer: Any) -> XetFile | None:
        """Read the Hub's answer about one path; None where that is not in Xet."""
        try:
            info = answer[0]
            digest = Digest("sha256", str(info["lfs"]["oid"]))
            return cls(str(info["xetHash"]), int(info["size"]), digest)
        except (LookupError, TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class Stored:
    """What is to be stored: bytes, or the file that holds them, and their SHA-256 in hex."""

    body: bytes | Path = field(repr=False)
    sha256: str


class Xet:
    """The client, made when it is first needed; threads share it.

    What fails in Xet is only said to have failed: everything can be had, and brought, over HTTP.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session: Any = None

    def is_usable(self) -> bool:
        """Say whether a client that can be stopped is there, and HF_HUB_DISABLE_XET is not set."""
        try:
            has_session = hasattr(_module(), "XetSession")
            constants: Any = importlib.import_module("huggingface_hub.constants")
        except Exception:  # noqa: BLE001 - missing or broken, everything can be had over HTTP
            return False
        return has_session and not getattr(constants, "HF_HUB_DISABLE_XET", False)

    def fetch(
        self,
        place: HubFile,
        file: XetFile,
        token: str | None,
        path: Path,
        progress: Progress,
        cancel: Cancel,
    ) -> bool:
        """Write a file to ``path``; say whether that went well.

        Raises:
            Cancelled: It was cancelled.
        """

        def begin() -> Any:
            return self._made().new_file_download_group(
                **_access(place, "xet-read-token", token),
                progress_callback=lambda all_, _: progress(all_.total_bytes_completed, file.size),
            )

        def work(group: Any) -> None:
            wanted = _module().XetFileInfo(file.xet_hash, file.size)
            group.start_download_file(wanted, str(path))

        return _went_well(begin, work, place, cancel)

    def store(
        self, place: HubFile, files: Sequence[Stored], token: str | None, cancel: Cancel
    ) -> bool:
        """Store files, so that a commit may name them; say whether that went well.

        Raises:
            Cancelled: It was cancelled.
        """

        def begin() -> Any:
            return self._made().new_upload_commit(**_access(place, "xet-write-token", token))

        def work(group: Any) -> None:
            for file in files:
                if isinstance(file.body, bytes):
                    group.start_upload_bytes(file.body, sha256=file.sha256)
                else:
                    group.start_upload_file(str(file.body), sha256=file.sha256)

        return _went_well(begin, work, place, cancel)

    def _made(self) -> Any:
        with self._lock:
            self._session = self._session or _module().XetSession()
            return self._session


def _module() -> Any:
    return importlib.import_module("hf_xet")


def _access(place: HubFile, verb: str, token: str | None) -> dict[str, Any]:
    headers = {name: value.get_secret_value() for name, value in bearer(token).items()}
    return {"token_refresh_url": place.api(verb), "token_refresh_headers": headers}


def _went_well(
    begin: Callable[[], Any], work: Callable[[Any], None], place: HubFile, cancel: Cancel
) -> bool:
    """Begin a group of transfers, give it its work, wait for it; say whether that went well."""
    try:
        group = until_done(begin, cancel, lambda late: late.abort())
        with cancel.calling(group.abort), group:
            work(group)
    except (OSError, RuntimeError, ValueError) as error:
        cancel.check()
        _log.warning("%s: Xet failed (%s).", redacted(place.url), type(error).__name__)
        return False
    cancel.check()
    return True
