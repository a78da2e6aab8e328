from __future__ import annotations

from pathlib import Path

import pytest

from comfyui_stateless.config import Settings, override, without_effect
from comfyui_stateless.errors import ConfigError
from comfyui_stateless.variables import LAUNCHER_MARK, LAUNCHER_ONLY

pytestmark = pytest.mark.usefixtures("plain_environment")


def test_without_any_variable_the_defaults_hold() -> None:
    settings = Settings.load()
    assert settings.keys == ()
    assert settings.cancel_on_disconnect is True
    assert settings.log_level == "info"
    assert settings.max_body_bytes == 100 * 1024 * 1024
    assert settings.max_queue_depth == 0
    assert settings.prepend_filenames is True
    assert settings.reject_when_full is False
    assert settings.warmup_prompt_file is None


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("CANCEL_ON_DISCONNECT", "false", False),
        ("LOG_LEVEL", "warn", "warn"),
        ("MAX_BODY_SIZE_MB", "1.5", 1.5),
        ("MAX_QUEUE_DEPTH", "7", 7),
        ("PREPEND_FILENAMES", "0", False),
        ("REJECT_WHEN_FULL", "true", True),
        ("MAX_QUEUE_DEPTH", "", 0),
    ],
)
def test_a_variable_sets_the_field_of_its_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, value: object
) -> None:
    monkeypatch.setenv(variable, text)
    assert getattr(Settings.load(), variable.lower()) == value


def test_keys_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", " one, two ,,three")
    assert Settings.load().keys == ("one", "two", "three")


def test_keys_do_not_show_when_settings_are_printed() -> None:
    assert "hush" not in repr(Settings(api_keys="hush"))  # type: ignore[arg-type]


def test_the_warm_up_file_has_to_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "warm-up.json"
    monkeypatch.setenv("WARMUP_PROMPT_FILE", str(file))
    with pytest.raises(ConfigError, match="WARMUP_PROMPT_FILE"):
        Settings.load()
    file.write_text("{}")
    assert Settings.load().warmup_prompt_file == file


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("API_KEYS", " , "),
        ("CANCEL_ON_DISCONNECT", "maybe"),
        ("LOG_LEVEL", "loud"),
        ("MAX_BODY_SIZE_MB", "0"),
        ("MAX_BODY_SIZE_MB", "inf"),
        ("MAX_BODY_SIZE_MB", "nan"),
        ("MAX_QUEUE_DEPTH", "-1"),
        ("MAX_QUEUE_DEPTH", "many"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError, match=variable):
        Settings.load()


def test_all_wrong_variables_come_in_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "loud")
    monkeypatch.setenv("MAX_QUEUE_DEPTH", "many")
    monkeypatch.setenv("API_KEYS", ",")
    with pytest.raises(ConfigError) as caught:
        Settings.load()
    assert set(caught.value.details["variables"]) == {"LOG_LEVEL", "MAX_QUEUE_DEPTH", "API_KEYS"}
    assert all(name in caught.value.message for name in caught.value.details["variables"])


def test_every_setting_says_what_it_is_for() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_variables_without_effect_are_named() -> None:
    environ = {LAUNCHER_ONLY[0]: "x", "PATH": "/bin", "CMD": ""}
    (launcher,) = without_effect(environ)
    assert LAUNCHER_ONLY[0] in launcher
    assert "CMD" not in launcher
    assert without_effect({"PATH": "/bin"}) == []


def test_below_the_launcher_its_variables_are_no_mistake() -> None:
    assert without_effect({LAUNCHER_ONLY[0]: "x", LAUNCHER_MARK: "1"}) == []


def test_flags_outrank_variables_in_either_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://one:1")
    monkeypatch.setenv("HTTP_PROXY", "http://two:2")
    monkeypatch.setenv("MAX_QUEUE_DEPTH", "1")
    override({"HTTP_PROXY": "http://three:3", "MAX_QUEUE_DEPTH": "3"})
    settings = Settings.load()
    assert settings.http_proxy is not None
    assert settings.http_proxy.get_secret_value() == "http://three:3"
    assert settings.max_queue_depth == 3


@pytest.mark.parametrize("text", ["!", "whsec_", " "])
def test_a_secret_that_is_no_base64_is_wrong_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", text)
    with pytest.raises(ConfigError, match=r"WEBHOOK_SECRET: .*is no base64"):
        Settings.load()


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("AWS_ENDPOINT_URL", "junk://user:hush@host"),
        ("AWS_ENDPOINT_URL", "user:hush@host"),
        ("HF_ENDPOINT", "ftp://user:hush@host/?token=hush"),
        ("HTTP_TRUSTED_ORIGINS", "http://user:hush@host"),
        ("HTTP_TRUSTED_ORIGINS", "http://host/?token=hush"),
        ("HTTP_AUTH_ALLOWED_ORIGINS", "https://host,user:hush@host"),
        ("ALLOWED_HOSTS", "user:hush@host"),
    ],
)
def test_what_is_wrong_is_told_to_all_clients_without_its_secrets(
    variable: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError, match=variable) as caught:
        Settings.load()
    assert "hush" not in str(caught.value.body())
