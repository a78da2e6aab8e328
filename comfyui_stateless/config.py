"""All settings, read once from the environment; no other module reads it.

Every wrong variable is reported in one error, so that an operator mends them in one go.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from .access import (
    AzureAccount,
    HttpAccess,
    HuggingFaceAccess,
    Proxies,
    check_secret,
    origin_of,
    origins,
    split_list,
)
from .hosts import host_names
from .variables import (
    LAUNCHER_MARK,
    LAUNCHER_ONLY,
    OTHER_SECRETS,
    PROXIES,
    SALAD_METADATA_URL,
    ExistingFile,
    from_home,
    wrong_variables,
)

__all__ = ["AzureAccount", "HttpAccess", "HuggingFaceAccess", "Proxies", "Settings"]

LogLevel = Literal["trace", "debug", "info", "warn", "error", "fatal"]

LOG_LEVELS: Mapping[str, int] = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}


class Settings(BaseSettings):
    """The settings of the extension; each field is the variable of the same name in capitals."""

    model_config = SettingsConfigDict(
        frozen=True, env_ignore_empty=True, extra="ignore", hide_input_in_errors=True
    )

    api_keys: SecretStr | None = Field(
        default=None,
        description="Comma-separated keys. When set, every route but the probes needs one of them, "
        "as `Authorization: Bearer` or `X-API-Key`.",
    )
    allowed_hosts: str | None = Field(
        default=None,
        description="Comma-separated host names. When set, a request that calls the server by "
        "another gets 421, ComfyUI's own routes included; the probes are excepted.",
    )
    allow_publish: bool = Field(
        default=False,
        description="Let clients save workflow endpoints into WORKFLOW_DIR, and remove them.",
    )
    aws_endpoint_url: str | None = Field(
        default=None, description="Where S3 is, if not at Amazon; requests may name it too."
    )
    aws_region: str | None = Field(
        default=None, description="The region of S3; it outranks AWS_DEFAULT_REGION and profiles."
    )
    azure_storage_account: str | None = Field(
        default=None, description="The storage account for uploads and for its own blobs."
    )
    azure_storage_connection_string: SecretStr | None = Field(
        default=None, description="Account, key and endpoint in one; it outranks the others."
    )
    azure_storage_key: SecretStr | None = Field(default=None, description="The account's key.")
    azure_storage_sas_token: SecretStr | None = Field(
        default=None, description="A shared access signature for the account."
    )
    cache_dir: Path = Field(
        default=Path("~/.cache/comfyui-api"),
        description="Where downloaded models and inputs are kept.",
    )
    cancel_on_disconnect: bool = Field(
        default=True, description="Cancel the job of a synchronous request whose client hangs up."
    )
    hf_endpoint: str = Field(default="https://huggingface.co", description="The Hugging Face Hub.")
    hf_token: SecretStr | None = Field(default=None, description="The Hub's token.")
    http_auth_allowed_origins: str | None = Field(
        default=None,
        description="Comma-separated origins that get HTTP_AUTH_HEADER_NAME; all when left out.",
    )
    http_auth_header_name: str | None = Field(
        default=None,
        pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$",
        description="A header for all HTTP requests that download or upload files.",
    )
    http_auth_header_value: SecretStr | None = Field(
        default=None, description="The value of that header."
    )
    http_proxy: SecretStr | None = Field(
        default=None,
        description="The proxy for outgoing connections; lower case wins. "
        "Serves https too where HTTPS_PROXY is left out.",
    )
    http_trusted_origins: str | None = Field(
        default=None,
        description="Comma-separated origins that may be reached at any address; `*` is all.",
    )
    https_proxy: SecretStr | None = Field(
        default=None, description="The proxy for outgoing https connections."
    )
    log_level: LogLevel = Field(default="info", description="What this extension logs at least.")
    lru_cache_size_gb: float = Field(
        default=0,
        ge=0,
        allow_inf_nan=False,
        description="GiB that CACHE_DIR may hold before the files that were used longest ago go; "
        "0 is no limit.",
    )
    markdown_schema_descriptions: bool = Field(
        default=True,
        description="End the description of a workflow endpoint with a table of its inputs.",
    )
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
    max_attempts: int = Field(
        default=2,
        ge=1,
        description="How often an accepted job is run at most when the process dies under it.",
    )
    no_proxy: str | None = Field(
        default=None,
        description="Comma-separated hosts, domains and networks without a proxy; `*` is all.",
    )
    prepend_filenames: bool = Field(
        default=True,
        description="Put the id in front of output file names; "
        "when false the id replaces the prefix.",
    )
    prompt_webhook_retries: int = Field(
        default=3, ge=0, description="How often a webhook that was not taken is sent again."
    )
    reject_when_full: bool = Field(
        default=False, description="Answer 429 to new prompts once MAX_QUEUE_DEPTH is reached."
    )
    result_max_bytes: int = Field(
        default=2 * 1024**3, ge=0, description="Bytes of outputs that are kept for RESULT_TTL_S."
    )
    result_ttl_s: float = Field(
        default=600,
        ge=0,
        allow_inf_nan=False,
        description="Seconds that `GET /prompt/{id}` gives the result of an ended job; "
        "0 is not at all.",
    )
    salad_metadata_url: str = Field(
        default="http://169.254.169.254:80",
        description="SaladCloud's metadata service, which is told the queue's length there.",
    )
    shutdown_grace_s: float = Field(
        default=30,
        ge=0,
        allow_inf_nan=False,
        description="Seconds that running jobs get after SIGTERM.",
    )
    state_dir: Path = Field(
        default=Path("~/.local/state/comfyui-stateless"),
        description="Where accepted jobs, due webhooks and results are kept.",
    )
    system_webhook_events: str | None = Field(
        default=None,
        description="Comma-separated events for SYSTEM_WEBHOOK_URL; `all` is all of them.",
    )
    system_webhook_url: SecretStr | None = Field(
        default=None, description="Receives ComfyUI's events of our jobs, and storage events."
    )
    warmup_prompt_file: ExistingFile | None = Field(
        default=None,
        description="A graph in the API format, run once before the server counts as ready.",
    )
    warmup_prompt_url: SecretStr | None = Field(
        default=None, description="Where to get such a graph; WARMUP_PROMPT_FILE outranks it."
    )
    webhook_secret: SecretStr | None = Field(
        default=None,
        description="Signs webhooks as Standard Webhooks: base64, with or without `whsec_`.",
    )
    workflow_dir: Path = Field(
        default=Path("/workflows"),
        description="Files here become workflow endpoints; it need not exist.",
    )
    workflow_node_packages: Path | None = Field(
        default=None,
        description="A folder made by `comfyui-stateless workflow packages`, for workflow files in "
        "JavaScript and TypeScript; left out, npm makes one in CACHE_DIR when it is first needed.",
    )

    @field_validator("api_keys")
    @classmethod
    def _has_a_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not split_list(value.get_secret_value()):
            raise ValueError("holds no key")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, value: str | None) -> str | None:
        if value is not None:
            host_names(value)
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _is_a_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_secret(value.get_secret_value())
        return value

    @field_validator("http_trusted_origins", "http_auth_allowed_origins")
    @classmethod
    def _are_origins(cls, value: str | None) -> str | None:
        for origin in split_list(value or ""):
            if origin != "*":
                origin_of(origin, exact=True)
        return value

    @field_validator("aws_endpoint_url", "hf_endpoint")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        origin_of(value)
        return value.rstrip("/")

    @field_validator("cache_dir", "state_dir", "workflow_dir", "workflow_node_packages")
    @classmethod
    def _from_home(cls, value: Path | None) -> Path | None:
        return None if value is None else from_home(value)

    @classmethod
    def load(cls) -> Settings:
        """Read the process's environment.

        Raises:
            ConfigError: Names every variable with a wrong value, and what is wrong with it.
        """
        return load(cls)

    @property
    def keys(self) -> tuple[str, ...]:
        """The accepted API keys; none means that the API is open."""
        return split_list(self.api_keys.get_secret_value()) if self.api_keys else ()

    @property
    def hosts(self) -> frozenset[str]:
        """The names that the server may be called by; none is any."""
        return host_names(self.allowed_hosts) if self.allowed_hosts else frozenset()

    @property
    def has_warmup(self) -> bool:
        """Whether a graph is to be run before the server counts as ready."""
        return self.warmup_prompt_file is not None or self.warmup_prompt_url is not None

    @property
    def max_body_bytes(self) -> int:
        """The body limit in bytes."""
        return int(self.max_body_size_mb * 1024 * 1024)

    @property
    def cache_bytes(self) -> int:
        """The limit of the cache in bytes, 0 for none."""
        return int(self.lru_cache_size_gb * 1024**3)

    @property
    def system_events(self) -> frozenset[str]:
        """The events that SYSTEM_WEBHOOK_URL gets."""
        return frozenset(split_list(self.system_webhook_events or ""))

    @property
    def http(self) -> HttpAccess:
        """What HTTP requests to others carry and where they may go."""
        header = None
        if self.http_auth_header_name and self.http_auth_header_value:
            header = (self.http_auth_header_name, self.http_auth_header_value)
        allowed = self.http_auth_allowed_origins
        return HttpAccess(
            trusted=origins(self.http_trusted_origins or ""),
            header=header,
            header_origins=None if allowed is None else origins(allowed),
            proxies=Proxies(
                http=self.http_proxy,
                https=self.https_proxy or self.http_proxy,
                exempt=split_list(self.no_proxy or ""),
            ),
        )

    @property
    def azure(self) -> AzureAccount:
        """The operator's Azure storage account."""
        return AzureAccount(
            self.azure_storage_connection_string,
            self.azure_storage_account,
            self.azure_storage_key,
            self.azure_storage_sas_token,
        )

    @property
    def huggingface(self) -> HuggingFaceAccess:
        """The operator's Hugging Face Hub."""
        return HuggingFaceAccess(self.hf_endpoint, self.hf_token)


S = TypeVar("S", bound=BaseSettings)


def load(kind: type[S]) -> S:
    """Read the process's environment into settings of one kind.

    Raises:
        ConfigError: Names every variable with a wrong value, and what is wrong with it.
    """
    try:
        return kind(**_proxies(os.environ))
    except ValidationError as error:
        found = error.errors(include_input=False)
        reasons = {str(e["loc"][0]).upper(): _reason(e["msg"]) for e in found}
        raise wrong_variables(reasons) from None


def _reason(message: str) -> str:
    """Return pydantic's message; of a check of our own, what that says."""
    return message.removeprefix("Value error, ")


def override(values: Mapping[str, str]) -> None:
    """Set variables of this process, and so of all that it starts, as if they had come with it.

    Where lower case outranks upper case, both are set.
    """
    for name, value in values.items():
        os.environ[name] = value
        if name.lower() in PROXIES:
            os.environ[name.lower()] = value


def system_metadata(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what system events carry as metadata: ``SYSTEM_META_*``, and SaladCloud's own."""
    found = {}
    for name, value in environ.items():
        if name.upper().startswith("SYSTEM_META_"):
            found[name[len("SYSTEM_META_") :]] = value
        elif name.startswith("SALAD_") and name != SALAD_METADATA_URL:
            found[name.lower()] = value
    return found


def on_saladcloud(environ: Mapping[str, str] = os.environ) -> bool:
    """Say whether this process runs on SaladCloud."""
    return bool(environ.get("SALAD_MACHINE_ID"))


def without_effect(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return one line per group of variables that are set and change nothing here."""
    if LAUNCHER_MARK in environ:
        return []
    lines = []
    if ignored := [name for name in LAUNCHER_ONLY if environ.get(name)]:
        lines.append(f"only the launcher reads {', '.join(ignored)}")
    return lines


def inherited() -> dict[str, str]:
    """Return the environment of a program that we start: our own."""
    return dict(os.environ)


def without_secrets(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a program that runs others' code: our own, less our secrets.

    A proxy stays where its URL holds no password.
    """
    secret = {name for name, field in Settings.model_fields.items() if _is_secret(field)}
    return {
        name: value
        for name, value in environ.items()
        if name.upper() not in OTHER_SECRETS
        and (name.lower() not in secret or (name.lower() in PROXIES and "@" not in value))
    }


def _is_secret(field: FieldInfo) -> bool:
    return SecretStr in (field.annotation, *get_args(field.annotation))


def _proxies(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the proxy variables, in which lower case outranks upper case."""
    found = {name: environ.get(name) or environ.get(name.upper()) for name in PROXIES}
    return {name: value for name, value in found.items() if value}
