"""Environment variables that are no settings of the extension's own, and paths in variables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from .errors import ConfigError

LAUNCHER_ONLY = (
    "ALWAYS_RESTART_COMFYUI",
    "BASE",
    "CMD",
    "COMFYUI_HANG_S",
    "COMFYUI_PORT_HOST",
    "COMFY_HOME",
    "DIRECT_ADDRESS",
    "EXPOSE_COMFYUI",
    "HOST",
    "INPUT_DIR",
    "LOG_FORMAT",
    "MANIFEST",
    "MANIFEST_JSON",
    "MODEL_DIR",
    "OUTPUT_DIR",
    "PORT",
    "STARTUP_CHECK_INTERVAL_S",
    "STARTUP_CHECK_MAX_TRIES",
)
"""Variables that only the launcher reads: inside ComfyUI they change nothing."""

LAUNCHER_MARK = "COMFYUI_STATELESS_LAUNCHER"
"""A variable that the launcher gives to ComfyUI, and so to all that ComfyUI starts."""

SALAD_METADATA_URL = "SALAD_METADATA_URL"
"""A variable of ours, where all others that begin so are SaladCloud's."""

OTHER_SECRETS = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "MANIFEST_JSON",
    }
)
"""Variables with secrets in them that are no field of ``Settings``: libraries read them."""

PROXIES = ("http_proxy", "https_proxy", "no_proxy")
"""Variables that are read in lower case too, which outranks upper case."""


def from_home(path: Path) -> Path:
    """Return a path with the home folder in place of ``~``.

    Raises:
        ValueError: There is no such folder.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(f"there is no home folder {path.parts[0][:100]!r}") from None


def is_file(path: Path) -> bool:
    """Say whether a file is there.

    Raises:
        ValueError: Nobody can tell, as with a name that is too long.
    """
    try:
        return path.is_file()
    except OSError as error:
        raise ValueError(f"it cannot be looked at: {error.strerror}") from None


def _existing(path: Path) -> Path:
    if not is_file(path):
        raise ValueError("Path does not point to a file")
    return path


ExistingFile = Annotated[Path, AfterValidator(_existing)]
"""As pydantic's ``FilePath``, which breaks off at a path that cannot be looked at."""


def wrong_variables(wrong: Mapping[str, str]) -> ConfigError:
    """Return the error for variables whose values are wrong, by name, each with its reason."""
    listing = "; ".join(f"{name}: {in_a_line(reason)}" for name, reason in wrong.items())
    return ConfigError(f"Wrong environment variables: {listing}.", details={"variables": wrong})


def in_a_line(text: str) -> str:
    """Return a text with escapes in place of line breaks, and of all else that no terminal shows."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
