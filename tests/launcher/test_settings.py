from __future__ import annotations

from pathlib import Path

import pytest

from comfyui_stateless.config import Settings
from comfyui_stateless.errors import ConfigError
from comfyui_stateless.launcher.flags import parse
from comfyui_stateless.launcher.settings import LauncherSettings, read_configuration
from comfyui_stateless.variables import LAUNCHER_ONLY

ALL = {**LauncherSettings.model_fields, **Settings.model_fields}


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ALL:
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "main.py").touch()
    monkeypatch.setenv("COMFY_HOME", str(tmp_path))
    return tmp_path


def wrong() -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        read_configuration()
    return dict(caught.value.details["variables"])


def test_the_defaults_are_those_of_the_product_that_is_replaced(home: Path) -> None:
    settings = read_configuration().launcher
    assert (settings.host, settings.port) == ("::", 3000)
    assert settings.comfyui_url == "http://127.0.0.1:8188"
    assert (settings.startup_check_interval_s, settings.startup_check_max_tries) == (1, 20)
    assert settings.always_restart_comfyui is False
    assert LauncherSettings.model_fields["comfy_home"].default == Path("/opt/ComfyUI")


def test_the_launcher_and_the_extension_are_checked_together(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    (home / "main.py").unlink()
    values = {"PORT": "70000", "MAX_QUEUE_DEPTH": "-1", "MANIFEST": str(home / "none.yml")}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert set(wrong()) == {*values, "COMFY_HOME"}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALWAYS_RESTART_COMFYUI", "maybe"),
        ("CMD", "python 'main.py"),
        ("CMD", "  "),
        ("COMFYUI_HANG_S", "-1"),
        ("COMFYUI_PORT_HOST", "0"),
        ("LOG_FORMAT", "xml"),
        ("PORT", "65536"),
        ("STARTUP_CHECK_INTERVAL_S", "0"),
        ("STARTUP_CHECK_MAX_TRIES", "0"),
        ("WEBHOOK_SECRET", "!"),
    ],
)
def test_a_wrong_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert set(wrong()) == {variable}


def test_with_a_command_of_its_own_no_comfyui_has_to_be_there(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    (home / "main.py").unlink()
    monkeypatch.setenv("CMD", "./init.sh --fast")
    assert read_configuration().launcher.cmd == "./init.sh --fast"


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8188"),
        ("0.0.0.0", "http://127.0.0.1:8188"),
        ("::", "http://[::1]:8188"),
        ("::1", "http://[::1]:8188"),
        ("10.0.0.1,::", "http://10.0.0.1:8188"),
        ("localhost", "http://localhost:8188"),
    ],
)
def test_comfyui_is_reached_where_it_listens(
    monkeypatch: pytest.MonkeyPatch, address: str, url: str
) -> None:
    monkeypatch.setenv("DIRECT_ADDRESS", address)
    assert read_configuration().launcher.comfyui_url == url


def test_the_manifest_is_kept_out_of_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANIFEST_JSON", '{"pip": ["https://user:hush@host/a.whl"]}')
    assert "hush" not in repr(read_configuration())


def test_the_extension_names_exactly_the_launchers_variables() -> None:
    names = {name.upper() for name in LauncherSettings.model_fields}
    assert names == set(LAUNCHER_ONLY)


@pytest.mark.parametrize("name", ALL)
def test_every_variable_is_a_flag(name: str) -> None:
    flag = f"--{name.replace('_', '-')}"
    assert parse([flag, "7"]).variables == {name.upper(): "7"}
    assert parse([f"{flag}=7"]).variables == {name.upper(): "7"}


def test_a_flag_for_yes_or_no_needs_no_value() -> None:
    asked = parse(["--reject-when-full", "--prepend-filenames", "false"])
    assert asked.variables == {"REJECT_WHEN_FULL": "true", "PREPEND_FILENAMES": "false"}


def test_what_follows_two_dashes_is_comfyuis() -> None:
    asked = parse(["--port", "1", "--", "--port", "2", "--", "x"])
    assert asked.variables == {"PORT": "1"}
    assert asked.arguments == ("--port", "2", "--", "x")


@pytest.mark.parametrize("argument", ["--max-queue", "--unknown", "word", "--port"])
def test_a_mistake_ends_with_two(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([argument])
    assert caught.value.code == 2
    assert "usage: comfyui-stateless" in capsys.readouterr().err


def test_the_help_has_every_flag_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')} " in text for name in ALL)
    assert "[/opt/ComfyUI]" in text
    assert "exit codes:" in text


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--version"])
    assert capsys.readouterr().out.startswith("comfyui-stateless ")
