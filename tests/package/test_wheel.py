"""The wheel: what is in it, and that it becomes an extension of a ComfyUI."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from comfyui_stateless import __version__
from tests.comfyui.server import Install
from tests.package.fresh import GRAPH, FreshServer, require_answers
from tests.package.tools import run, tool, tracked
from tests.ports import free_port

NAME = f"comfyui_stateless-{__version__}"
OWN = ("__init__.py", "requirements.txt")
START_S = 120
OF_USERS = {"custom_nodes", "models", "input", "output", "temp", "user", ".venv", "venv", ".git"}


@pytest.fixture(scope="module")
def built(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run([tool("pyproject-build"), "--no-isolation", "--outdir", folder, tree], tree, folder)
    return folder


@pytest.fixture(scope="module")
def environment(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel in it; what it requires comes from the suite's own."""
    folder = tmp_path_factory.mktemp("installed") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    own = sysconfig.get_path("purelib")
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (site / "requirements.pth").write_text(f"{own}\n")
    pip = [sys.executable, "-m", "pip", "--python", f"{folder}/bin/python", "install"]
    quiet = ["--no-deps", "--no-index", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, *quiet, f"{built}/{NAME}-py3-none-any.whl"], check=True)
    return folder


def in_environment(folder: Path, code: str, *arguments: str | Path) -> str:
    """Run Python code in the environment, away from the checkout; return what it printed."""
    command = [folder / "bin" / "python", "-c", code, *arguments]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, env=kept, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_wheel_holds_the_package_and_what_comfyui_imports(built: Path, tree: Path) -> None:
    with zipfile.ZipFile(built / f"{NAME}-py3-none-any.whl") as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    entry = {f"comfyui_stateless/custom_node/{name}" for name in (*OWN, *tracked(tree, "js"))}
    assert names == tracked(tree, "comfyui_stateless") | entry


def test_the_sdist_holds_no_tests(built: Path, tree: Path) -> None:
    with tarfile.open(built / f"{NAME}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked(tree, "comfyui_stateless", "js", *OWN) <= names
    assert {name for name in names if name.startswith(("tests", "docker", "docs"))} == set()


def test_the_wheel_requires_what_a_working_install_needs(built: Path, tree: Path) -> None:
    with zipfile.ZipFile(built / f"{NAME}-py3-none-any.whl") as wheel:
        metadata = wheel.read(f"{NAME}.dist-info/METADATA").decode()
    required = re.findall(r"^Requires-Dist: ([^;\n]+)$", metadata, re.MULTILINE)
    listed = (tree / "requirements.txt").read_text().splitlines()
    assert sorted(map(normal, required)) == sorted(map(normal, listed))


def normal(requirement: str) -> tuple[str, list[str]]:
    name, bounds = re.fullmatch(r"([\w-]+)(.*)", requirement.strip(), re.ASCII).groups()  # type: ignore[union-attr]
    return name.lower().replace("_", "-"), sorted(bounds.split(","))


def test_an_installed_wheel_can_be_imported(environment: Path) -> None:
    said = in_environment(environment, "import comfyui_stateless as c; print(c.__file__)")
    assert Path(said).is_relative_to(environment)


@pytest.mark.comfyui
def test_an_installed_wheel_links_itself_into_a_comfyui_and_answers_there(
    environment: Path, install: Install, tmp_path: Path
) -> None:
    link = "import sys, pathlib; from comfyui_stateless.launcher.extension import link; "
    custom_nodes = tmp_path / "custom_nodes"
    place = in_environment(
        environment, link + "print(link(pathlib.Path(sys.argv[1])))", custom_nodes
    )
    assert place == str(custom_nodes / "comfyui-stateless")
    python = environment / "bin" / "python"
    with FreshServer(replace(install, python=python), tmp_path) as server:
        require_answers(server)


def test_the_console_script_says_its_version_and_its_flags(environment: Path) -> None:
    script = environment / "bin" / "comfyui-stateless"
    said = {
        flag: subprocess.run([script, flag], capture_output=True, text=True, check=True).stdout
        for flag in ("--version", "--help")
    }
    assert said["--version"] == f"comfyui-stateless {__version__}\n"
    assert "--comfy-home" in said["--help"]


@pytest.mark.comfyui
def test_the_console_script_serves_a_comfyui_that_has_never_seen_the_extension(
    environment: Path, install: Install, tmp_path: Path
) -> None:
    home, port = fresh_home(install, tmp_path), free_port()
    command: list[str | Path] = [environment / "bin" / "comfyui-stateless", "--comfy-home", home]
    command += ["--host", "127.0.0.1", "--port", str(port), "--comfyui-port-host"]
    command += [str(free_port()), "--state-dir", tmp_path / "state", "--cache-dir", tmp_path / "c"]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path) as launcher,
    ):
        try:
            wait_until_healthy(launcher, port, tmp_path / "log")
            assert json.loads(posted(port))["images"]
            assert (home / "custom_nodes" / "comfyui-stateless" / "__init__.py").is_symlink()
        finally:
            launcher.send_signal(signal.SIGTERM)
        assert launcher.wait(60) == 0


def fresh_home(install: Install, folder: Path) -> Path:
    """Return a copy of a ComfyUI without packs, models, and what it has made."""

    def own(place: str, _names: list[str]) -> set[str]:
        return OF_USERS if Path(place) == install.home else {"__pycache__"}

    return Path(shutil.copytree(install.home, folder / "ComfyUI", ignore=own))


def wait_until_healthy(launcher: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not is_healthy(port):
        assert launcher.poll() is None, log.read_text()[-4000:]
        assert time.monotonic() < deadline, log.read_text()[-4000:]
        time.sleep(0.2)


def is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False


def posted(port: int) -> bytes:
    headers = {"Content-Type": "application/json"}
    body = json.dumps({"prompt": GRAPH}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/prompt", body, headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return bytes(response.read())
