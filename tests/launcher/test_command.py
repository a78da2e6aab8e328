"""The command that starts ComfyUI, and what is known of its version without running it."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.config import Settings
from comfyui_stateless.errors import ConfigError
from comfyui_stateless.launcher import comfyui
from comfyui_stateless.launcher.settings import Configuration, LauncherSettings

CLI = """
parser = argparse.ArgumentParser()
parser.add_argument("--listen", type=str)
group = parser.add_mutually_exclusive_group()
group.add_argument("--verbose", default="INFO", help="not --this")
parser.add_argument("--max-upload-size", type=float)
parser.add_argument("--extra-model-paths-config", nargs="+")
parser.add_argument("--input-directory", "--input")
"""
FOLDERS = """
folder_names_and_paths = {}
folder_names_and_paths["loras"] = ([os.path.join(models_dir, "loras")], extensions)
folder_names_and_paths["clips"] = (
    [os.path.join(models_dir, "text"), os.path.join(models_dir, "clip", "old")], extensions)
folder_names_and_paths["custom_nodes"] = ([os.path.join(base_path, "custom_nodes")], set())
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in {**LauncherSettings.model_fields, **Settings.model_fields}:
        monkeypatch.delenv(name.upper(), raising=False)
    home = tmp_path / "ComfyUI"
    (home / "comfy").mkdir(parents=True)
    (home / "main.py").touch()
    (home / "comfy" / "cli_args.py").write_text(CLI)
    (home / "folder_paths.py").write_text(FOLDERS)
    monkeypatch.setattr(comfyui, "is_cpu_build", lambda: False)
    return home


def configured(home: Path, log_level: Any = "info", **settings: Any) -> Configuration:
    return Configuration(
        LauncherSettings(comfy_home=home, **settings), Settings(log_level=log_level)
    )


def words(configuration: Configuration, *more: str) -> str:
    return shlex.join(comfyui.words(configuration, more, Path("/scratch")))


def test_only_flags_that_this_comfyui_knows_are_passed(home: Path) -> None:
    assert words(configured(home)) == (
        f"{sys.executable} {home}/main.py --listen 127.0.0.1 --port 8188 --max-upload-size 100"
    )


def test_the_operators_arguments_come_last_and_outrank_ours(home: Path) -> None:
    command = words(configured(home), "--max-upload-size", "5", "--lowvram")
    assert command.endswith("--port 8188 --max-upload-size 5 --lowvram")


def test_folders_and_the_level_are_passed(home: Path, tmp_path: Path) -> None:
    command = words(configured(home, "error", input_dir=tmp_path / "in", output_dir=tmp_path / "o"))
    assert f"--input-directory {tmp_path}/in" in command
    assert "--output-directory" not in command
    assert command.endswith("--verbose ERROR")


def test_a_torch_for_cpus_is_told_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (home / "comfy" / "cli_args.py").open("a") as file:
        file.write('parser.add_argument("--cpu", action="store_true")')
    assert "--cpu" not in words(configured(home))
    monkeypatch.setattr(comfyui, "is_cpu_build", lambda: True)
    assert words(configured(home)).endswith("--cpu")


def test_a_command_of_the_operators_is_left_as_it_is(home: Path) -> None:
    configuration = configured(home, cmd="python3 'my main.py' --x", input_dir=home)
    assert words(configuration) == "python3 'my main.py' --x"


def test_models_are_found_through_a_file_where_there_is_no_flag(home: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    configuration = configured(home, model_dir=models)
    assert words(configuration).endswith("--extra-model-paths-config /scratch/model_paths.yaml")
    (models / "mine").mkdir(parents=True)
    comfyui.lay_out(configuration.launcher, tmp_path)
    assert json.loads((tmp_path / "model_paths.yaml").read_text()) == {
        "model_dir": {
            "base_path": str(models), "is_default": True,
            "mine": "mine", "loras": "loras", "clips": "text\nclip/old",
        }
    }  # fmt: skip


def test_models_are_given_by_the_flag_where_there_is_one(home: Path, tmp_path: Path) -> None:
    with (home / "comfy" / "cli_args.py").open("a") as file:
        file.write('parser.add_argument("--models-directory")')
    command = words(configured(home, model_dir=tmp_path / "m"))
    assert command.endswith(f"--models-directory {tmp_path}/m")


def test_folders_are_made(home: Path, tmp_path: Path) -> None:
    settings = configured(home, input_dir=tmp_path / "a" / "in").launcher
    comfyui.lay_out(settings, tmp_path)
    assert (tmp_path / "a" / "in").is_dir()


def test_a_folder_that_cannot_be_made_is_named(home: Path) -> None:
    settings = configured(home, output_dir=home / "main.py" / "out").launcher
    with pytest.raises(ConfigError, match=r"main\.py"):
        comfyui.lay_out(settings, home)


@pytest.mark.parametrize("source", [None, "def ("])
def test_a_comfyui_that_cannot_be_read_is_named(home: Path, source: str | None) -> None:
    file = home / "comfy" / "cli_args.py"
    file.unlink()
    if source is not None:
        file.write_text(source)
    with pytest.raises(ConfigError, match=r"cli_args\.py"):
        words(configured(home))


@pytest.mark.parametrize(
    ("arguments", "base"),
    [
        ((), None),
        (("--lowvram",), None),
        (("--lowvram", "--base-directory", "/b"), Path("/b")),
        (("--base-directory=/b", "--port", "1"), Path("/b")),
    ],
)
def test_custom_nodes_are_where_comfyui_looks(
    arguments: tuple[str, ...], base: Path | None
) -> None:
    assert comfyui.base_directory(arguments) == base


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tls-keyfile", "k.pem", "--tls-certfile", "c.pem"), "--tls-keyfile and --tls-certfile"),
        (("--tls-certfile=c.pem",), "--tls-keyfile and --tls-certfile"),
        (("--lowvram", "--port", "9000"), "--port 9000: .* COMFYUI_PORT_HOST"),
        (("--port=9000",), "--port 9000: .* COMFYUI_PORT_HOST"),
        (("--listen", "10.0.0.1,::1"), "--listen 10.0.0.1,::1: .* DIRECT_ADDRESS"),
    ],
)
def test_arguments_by_which_the_launcher_would_not_find_comfyui_are_refused(
    home: Path, arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        words(configured(home), *arguments)
    assert words(configured(home, cmd="run it"), *arguments) == "run it"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--port", "8188"),
        ("--listen",),
        ("--listen", "0.0.0.0"),
        ("--listen", "::,10.0.0.1"),
        ("--listen", "10.0.0.1,127.0.0.1", "--lowvram"),
        ("--port",),
    ],
)
def test_arguments_by_which_comfyui_is_found_are_handed_on(
    home: Path, arguments: tuple[str, ...]
) -> None:
    assert words(configured(home), *arguments).endswith(" ".join(arguments))
