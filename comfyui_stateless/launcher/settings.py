"""What the launcher alone reads of the environment."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ..config import Settings, load
from ..errors import ConfigError
from ..variables import ExistingFile, from_home, in_a_line, is_file, wrong_variables

S = TypeVar("S", bound=BaseSettings)


class LauncherSettings(BaseSettings):
    """The settings of the launcher; each field is the variable of the same name in capitals."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore")

    always_restart_comfyui: bool = Field(
        default=False,
        description="Start ComfyUI again whenever it ends; when false the launcher ends with it.",
    )
    base: str | None = Field(default=None, description="Accepted, and has no effect.")
    cmd: str | None = Field(
        default=None,
        description="The command that starts ComfyUI, split like a shell line, nothing appended; "
        "DIRECT_ADDRESS and COMFYUI_PORT_HOST are in its environment. "
        "When left out, main.py of COMFY_HOME with the launcher's own Python.",
    )
    comfy_home: Path = Field(
        default=Path("/opt/ComfyUI"), validate_default=True, description="ComfyUI's folder."
    )
    comfyui_hang_s: float = Field(
        default=60,
        ge=0,
        allow_inf_nan=False,
        description="Seconds without any answer after which ComfyUI counts as hung and is killed; "
        "0 is never.",
    )
    comfyui_port_host: int = Field(
        default=8188, ge=1, le=65535, description="The port that ComfyUI listens on."
    )
    direct_address: str = Field(
        default="127.0.0.1", min_length=1, description="The address that ComfyUI listens on."
    )
    expose_comfyui: bool = Field(
        default=False,
        description="Let ComfyUI's own pages and routes through on PORT too; "
        "with API_KEYS they need a key.",
    )
    host: str = Field(
        default="::", min_length=1, description="The address to listen on; `::` takes IPv4 too."
    )
    input_dir: Path | None = Field(
        default=None, description="ComfyUI's input folder, if not the one in COMFY_HOME."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="How the log is written: as text, or a JSON object a line."
    )
    manifest: ExistingFile | None = Field(
        default=None, description="A YAML or JSON file that names what to install."
    )
    manifest_json: SecretStr | None = Field(
        default=None, description="The same as text; it outranks MANIFEST."
    )
    model_dir: Path | None = Field(
        default=None, description="ComfyUI's model folder, if not the one in COMFY_HOME."
    )
    output_dir: Path | None = Field(
        default=None, description="ComfyUI's output folder, if not the one in COMFY_HOME."
    )
    port: int = Field(default=3000, ge=0, le=65535, description="The port to listen on.")
    startup_check_interval_s: float = Field(
        default=1,
        gt=0,
        allow_inf_nan=False,
        description="Seconds between two tries to reach a ComfyUI that starts.",
    )
    startup_check_max_tries: int = Field(
        default=20,
        ge=1,
        description="Tries after which a ComfyUI that starts and does not answer is given up.",
    )

    @field_validator("comfy_home", "input_dir", "model_dir", "output_dir")
    @classmethod
    def _whole(cls, value: Path | None) -> Path | None:
        return None if value is None else from_home(value).absolute()

    @field_validator("comfy_home")
    @classmethod
    def _is_comfyui(cls, value: Path, info: ValidationInfo) -> Path:
        has_own_command = info.data.get("cmd") is not None or "cmd" not in info.data
        if not has_own_command and not is_file(value / "main.py"):
            # Bytes that are no text would break pydantic, which passes the reason on.
            at = in_a_line(str(value))
            raise ValueError(f"there is no ComfyUI at {at}: it holds no main.py")
        return value

    @field_validator("cmd")
    @classmethod
    def _is_a_command(cls, value: str | None) -> str | None:
        if value is not None:
            split_command(value)
        return value

    @property
    def comfyui_address(self) -> str:
        """One address to reach ComfyUI at: DIRECT_ADDRESS may be a list, or stand for all."""
        first = self.direct_address.split(",")[0].strip()
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(first, first)  # noqa: S104  read, not bound

    @property
    def comfyui_url(self) -> str:
        """Where ComfyUI is, without a slash at the end."""
        host = self.comfyui_address
        return f"http://{f'[{host}]' if ':' in host else host}:{self.comfyui_port_host}"


@dataclass(frozen=True, slots=True)
class Configuration:
    """All settings of a launcher: its own, and those of the extension, which it passes on."""

    launcher: LauncherSettings
    extension: Settings


def split_command(text: str) -> list[str]:
    """Return the words of a command.

    Raises:
        ValueError: There is none, or a quotation does not end.
    """
    words = shlex.split(text)
    if not words:
        raise ValueError("holds no command")
    return words


def read_configuration() -> Configuration:
    """Read the environment.

    Raises:
        ConfigError: Names every wrong variable, the launcher's and the extension's alike.
    """
    wrong: dict[str, str] = {}
    launcher = _loaded(LauncherSettings, wrong)
    extension = _loaded(Settings, wrong)
    if launcher is None or extension is None:
        raise wrong_variables(wrong)
    return Configuration(launcher, extension)


def _loaded(kind: type[S], wrong: dict[str, str]) -> S | None:
    try:
        return load(kind)
    except ConfigError as error:
        wrong.update(error.details["variables"])
    return None
