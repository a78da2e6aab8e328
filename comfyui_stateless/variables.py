"""The names of environment variables that are no settings of the extension's own."""

from __future__ import annotations

from collections.abc import Mapping

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


def wrong_variables(wrong: Mapping[str, str]) -> ConfigError:
    """Return the error for variables whose values are wrong, by name, each with its reason."""
    listing = "; ".join(f"{name}: {reason}" for name, reason in wrong.items())
    return ConfigError(f"Wrong environment variables: {listing}.", details={"variables": wrong})
