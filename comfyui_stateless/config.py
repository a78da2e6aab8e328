"""All settings, read once from the environment; no other module reads it.

Every wrong variable is reported in one error, so that an operator mends them in one go.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, FilePath, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from .errors import ConfigError

LAUNCHER_ONLY = (
    "ALWAYS_RESTART_COMFYUI",
    "CMD",
    "COMFYUI_PORT_HOST",
    "COMFY_HOME",
    "DIRECT_ADDRESS",
    "HOST",
    "INPUT_DIR",
    "MANIFEST",
    "MANIFEST_JSON",
    "MODEL_DIR",
    "OUTPUT_DIR",
    "PORT",
    "STARTUP_CHECK_INTERVAL_S",
    "STARTUP_CHECK_MAX_TRIES",
)
"""Variables that only the launcher reads: inside ComfyUI they change nothing."""

NOT_SERVED_YET = (
    "SYSTEM_WEBHOOK_EVENTS",
    "SYSTEM_WEBHOOK_URL",
    "WARMUP_PROMPT_URL",
    "WEBHOOK_SECRET",
)
"""Variables of the contract whose feature this version does not have."""

LogLevel = Literal["trace", "debug", "info", "warn", "error", "fatal"]


class Settings(BaseSettings):
    """The settings of the extension; each field is the variable of the same name in capitals."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore")

    api_keys: SecretStr | None = Field(
        default=None,
        description="Comma-separated keys. When set, every route but the probes needs one of them, "
        "as `Authorization: Bearer` or `X-API-Key`.",
    )
    cancel_on_disconnect: bool = Field(
        default=True, description="Cancel the job of a synchronous request whose client hangs up."
    )
    log_level: LogLevel = Field(default="info", description="What this extension logs at least.")
    max_body_size_mb: float = Field(
        default=100,
        gt=0,
        allow_inf_nan=False,
        description="Largest request body that our routes accept, in MiB.",
    )
    max_queue_depth: int = Field(
        default=0,
        ge=0,
        description="Jobs in the queue from which `/ready` answers 503; 0 is no limit.",
    )
    prepend_filenames: bool = Field(
        default=True,
        description="Put the id in front of output file names; "
        "when false the id replaces the prefix.",
    )
    reject_when_full: bool = Field(
        default=False, description="Answer 429 to new prompts once MAX_QUEUE_DEPTH is reached."
    )
    warmup_prompt_file: FilePath | None = Field(
        default=None,
        description="A graph in the API format, run once before the server counts as ready.",
    )

    @field_validator("api_keys")
    @classmethod
    def _has_a_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _split(value):
            raise ValueError("holds no key")
        return value

    @classmethod
    def load(cls) -> Settings:
        """Read the process's environment.

        Raises:
            ConfigError: Names every variable with a wrong value, and what is wrong with it.
        """
        try:
            return cls()
        except ValidationError as error:
            wrong = {str(e["loc"][0]).upper(): e["msg"] for e in error.errors(include_input=False)}
            listing = "; ".join(f"{name}: {reason}" for name, reason in wrong.items())
            raise ConfigError(
                f"Wrong environment variables: {listing}.", details={"variables": wrong}
            ) from None

    @property
    def keys(self) -> tuple[str, ...]:
        """The accepted API keys; none means that the API is open."""
        return _split(self.api_keys) if self.api_keys else ()

    @property
    def max_body_bytes(self) -> int:
        """The body limit in bytes."""
        return int(self.max_body_size_mb * 1024 * 1024)


def without_effect(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return one line per group of variables that are set and change nothing here."""
    lines = []
    if ignored := [name for name in LAUNCHER_ONLY if environ.get(name)]:
        lines.append(f"only the launcher reads {', '.join(ignored)}")
    if missing := [name for name in NOT_SERVED_YET if environ.get(name)]:
        lines.append(f"this version has no use yet for {', '.join(missing)}")
    return lines


def _split(keys: SecretStr) -> tuple[str, ...]:
    return tuple(key.strip() for key in keys.get_secret_value().split(",") if key.strip())
