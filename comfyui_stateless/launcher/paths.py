"""Which paths of the launcher's port are the API's, and where each goes."""

from __future__ import annotations

import re

PREFIX = "/api/stateless"
"""Where the extension is in ComfyUI's own server."""

_OURS = re.compile(
    r"/(?:interrupt|download|models|validate|openapi\.json|metrics|events|status"
    # Of the documentation one level: below it ComfyUI has the pages of its nodes.
    r"|docs(?:/[^/]*)?|(?:prompt|workflow|jobs)(?:/.*)?)",
    re.DOTALL,
)
_DOTS = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)


def target_of(path: str) -> str | None:
    """Return where in ComfyUI's server a path of the API is, None if it is none of the API's.

    Args:
        path: As it came, percent-encoded. It is neither decoded nor encoded, so that an id with
            ``%2F`` arrives as one.
    """
    return PREFIX + path if _OURS.fullmatch(path) and is_plain(path) else None


def is_plain(path: str) -> bool:
    """Say whether a path begins at the root and has no ``.`` or ``..``, however it is encoded.

    Behind us these could mean another place than here.
    """
    return path.startswith("/") and _DOTS.search(path) is None
