"""Takes files out of Xet, the Hub's own storage, with its own client: hf_xet."""

from __future__ import annotations

import importlib
import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..naming import redacted
from .base import Cancel, Digest
from .hub import HubFile, bearer
from .vendors import until_done

_SHA256 = re.compile(r"[0-9a-f]{64}")

_log = logging.getLogger("comfyui_stateless.storage")

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class XetFile:
    """What the Hub says of a file that lies in Xet; ``size`` is in bytes."""

    xet_hash: str
    size: int
    digest: Digest | None

    @classmethod
    def of(cls, answer: Any) -> XetFile | None:
        """Read the Hub's answer about one path; None where that is not in Xet."""
        try:
            info = answer[0]
            sha256 = str(info["lfs"]["oid"])
            digest = Digest("sha256", sha256) if _SHA256.fullmatch(sha256) else None
            return cls(str(info["xetHash"]), int(info["size"]), digest)
        except (LookupError, TypeError, ValueError):
            return None


class Xet:
    """The client, made when it is first needed; threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session: Any = None

    def is_usable(self) -> bool:
        """Say whether a client that can be stopped is there, and HF_HUB_DISABLE_XET is not set."""
        try:
            has_session = hasattr(importlib.import_module("hf_xet"), "XetSession")
            constants: Any = importlib.import_module("huggingface_hub.constants")
        except ImportError:
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
        try:
            group = until_done(
                lambda: self._group(place, file, token, progress), cancel, lambda late: late.abort()
            )
            wanted = importlib.import_module("hf_xet").XetFileInfo(file.xet_hash, file.size)
            with cancel.calling(group.abort), group:
                group.start_download_file(wanted, str(path))
        except (OSError, RuntimeError, ValueError) as error:
            cancel.check()
            _log.warning("%s: Xet failed (%s).", redacted(place.url), type(error).__name__)
            return False
        cancel.check()
        return True

    def _group(self, place: HubFile, file: XetFile, token: str | None, progress: Progress) -> Any:
        headers = {name: value.get_secret_value() for name, value in bearer(token).items()}
        with self._lock:
            self._session = self._session or importlib.import_module("hf_xet").XetSession()
        return self._session.new_file_download_group(
            token_refresh_url=place.api("xet-read-token"),
            token_refresh_headers=headers,
            progress_callback=lambda all_, _: progress(all_.total_bytes_completed, file.size),
        )
