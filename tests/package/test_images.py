"""The images: what is written in the Dockerfiles and the bake file fits together and the product."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from comfyui_stateless import __version__
from comfyui_stateless.config import Settings
from comfyui_stateless.launcher.settings import LauncherSettings
from docker import packaging, releases
from tests.package.dockerfile import Dockerfile, Stage, filled, read
from tests.package.tools import CHECKOUT, run, tool, tracked

MAIN = CHECKOUT / "docker" / "Dockerfile"
EXAMPLE = CHECKOUT / "examples" / "docker"
DOCKERFILES = [MAIN, EXAMPLE / "Dockerfile", CHECKOUT / "examples" / "runpod" / "Dockerfile"]
IGNORED = CHECKOUT / "docker" / "Dockerfile.dockerignore"

# As the specification has it: with what the image is built from, "api" only where it is in it.
TAG = r"comfy[\d.]+(-api[\d.]+)?-torch[\d.]+-(cuda\d+\.\d+-(runtime|devel)|cpu)"


@pytest.fixture(scope="module")
def image() -> Dockerfile:
    return read(MAIN)


@pytest.fixture(scope="module")
def bake(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The bake file: variables, groups and targets by their names."""
    folder = tmp_path_factory.mktemp("bake")
    source = CHECKOUT / "docker" / "docker-bake.hcl"
    blocks, _ = json.JSONDecoder().raw_decode(run([tool("hcl2tojson"), source], folder, folder))
    kinds = {kind: _by_name(blocks[kind]) for kind in ("variable", "group", "target")}
    kinds["variable"] = {name: block["default"] for name, block in kinds["variable"].items()}
    return kinds


def _by_name(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    return {name.strip('"'): _plain(block) for each in blocks for name, block in each.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if key != "__is_block__"}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.strip('"') if isinstance(value, str) else value


def target(bake: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a target with what it inherits, its variables filled in."""
    own = bake["target"][name]
    whole: dict[str, Any] = {"args": {}}
    for parent in own.get("inherits", []):
        whole = target(bake, parent)
    arguments = {**whole["args"], **own.get("args", {})}
    whole = {**whole, **own, "args": arguments}
    return json.loads(filled(json.dumps(whole), bake["variable"]))  # type: ignore[no-any-return]


def stage(image: Dockerfile, name: str) -> Stage:
    return next(each for each in image.stages if each.name == name)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_the_linter_has_nothing_to_say(path: Path, tmp_path: Path) -> None:
    assert run([tool("hadolint"), path], CHECKOUT, tmp_path) == ""


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_every_step_is_a_script_that_a_shell_can_read(path: Path) -> None:
    steps = [step for each in read(path).stages for step in each.all("RUN")]
    assert steps
    for step in steps:
        script = re.sub(r"^(--\S+\s+)+", "", step.text)
        subprocess.run(["/bin/sh", "-n", "-c", script], check=True)


def test_versions_are_those_of_the_project(image: Dockerfile, bake: dict[str, Any]) -> None:
    variables = bake["variable"]
    assert variables["API_VERSION"] == __version__
    assert variables["COMFYUI_VERSION"] == releases.DEFAULT_VERSION
    assert f"comfy-cli=={image.defaults['COMFY_CLI_VERSION']}" in packaging.REQUIREMENTS


def test_a_plain_build_is_the_baked_runtime_image(image: Dockerfile, bake: dict[str, Any]) -> None:
    runtime = target(bake, "runtime")
    assert {name: image.defaults[name] for name in runtime["args"]} == runtime["args"]
    assert runtime["target"] == image.stages[-1].name
    assert bake["group"]["default"]["targets"] == ["runtime"]


def test_every_target_can_be_built(image: Dockerfile, bake: dict[str, Any]) -> None:
    names = {name for name in bake["target"] if not name.startswith("_")}
    assert set(bake["group"]["all"]["targets"]) == names
    for name in names:
        found = target(bake, name)
        assert set(found["args"]) <= set(image.defaults)
        assert found["target"] in {each.name for each in image.stages}
        assert (CHECKOUT / found["context"] / found["dockerfile"]).samefile(MAIN)


def test_tags_name_every_version_as_the_specification_does(bake: dict[str, Any]) -> None:
    names = bake["group"]["all"]["targets"]
    tags = {name: target(bake, name)["tags"] for name in names}
    variables = bake["variable"]
    for name, (tag,) in tags.items():
        repository, _, version = tag.partition(":")
        assert repository == variables["IMAGE"]
        found = re.fullmatch(TAG, version)
        assert found is not None, tag
        assert bool(found[1]) is (target(bake, name)["target"] == "api")
        assert f"comfy{variables['COMFYUI_VERSION']}-" in tag
        assert f"-torch{target(bake, name)['args']['TORCH_VERSION']}-" in tag
    assert len({tag for (tag,) in tags.values()}) == len(names)


def test_cuda_is_one_version_in_the_tag_the_base_image_and_torch(bake: dict[str, Any]) -> None:
    variables = bake["variable"]
    cuda = variables["CUDA_VERSION"]
    assert variables["CUDA_IMAGE_VERSION"].startswith(f"{cuda}.")
    assert variables["CUDA_INDEX"] == f"cu{cuda.replace('.', '')}"
    assert "devel" in target(bake, "devel")["args"]["BASE_IMAGE"]
    assert "nvidia" not in target(bake, "cpu")["args"]["BASE_IMAGE"]


def test_the_utilities_of_the_specification_are_in_it(image: Dockerfile) -> None:
    packages = set(stage(image, "system").all("RUN")[0].text.split())
    assert {"git", "curl", "wget", "unzip", "ca-certificates", "python3-venv"} <= packages
    assert any('"comfy-cli==' in step.text for step in stage(image, "environment").all("RUN"))


def test_what_is_copied_is_there(image: Dockerfile) -> None:
    known = {each.name for each in image.stages}
    for each in image.stages:
        for copy in each.all("COPY"):
            assert copy.flags.get("from", "wheel") in known
            if "from" not in copy.flags:
                assert copy.arguments == [".", "/source"]
    for path in DOCKERFILES[1:]:
        for copy in read(path).stages[0].all("COPY"):
            assert (path.parent / copy.arguments[0]).is_file()


def test_the_context_holds_what_the_wheel_is_built_from(tmp_path: Path, tree: Path) -> None:
    names = [line[1:] for line in IGNORED.read_text().splitlines() if line.startswith("!")]
    context = tmp_path / "context"
    for name in tracked(tree, *names):
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tree / name, context / name)
    build = tool("pyproject-build")
    run([build, "--no-isolation", "--wheel", "--outdir", tmp_path, context], context, tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert tracked(tree, "comfyui_stateless") <= set(archive.namelist())
        assert "comfyui_stateless/custom_node/__init__.py" in archive.namelist()


def test_the_launcher_is_the_first_process_and_no_root(image: Dockerfile) -> None:
    api = image.stages[-1]
    (entry,) = api.all("ENTRYPOINT")
    (program,) = json.loads(entry.text)
    project = (CHECKOUT / "pyproject.toml").read_text()
    assert re.search(rf'^\[project\.scripts\]\n{program} = "', project, re.MULTILINE)
    assert api.all("USER")[-1].text == "10001:10001"


def test_it_listens_where_it_says_and_is_asked_for_its_health(image: Dockerfile) -> None:
    api = image.stages[-1]
    port = LauncherSettings.model_fields["port"].default
    assert api.all("EXPOSE")[0].text == str(port)
    (check,) = api.all("HEALTHCHECK")
    assert f'"http://localhost:${{PORT:-{port}}}/health"' in check.text


def test_its_variables_are_settings(image: Dockerfile) -> None:
    fields = {name.upper() for name in (*Settings.model_fields, *LauncherSettings.model_fields)}
    names = {line.text.partition("=")[0] for line in image.stages[-1].all("ENV")}
    compose = yaml.safe_load((EXAMPLE / "compose.yaml").read_text())
    (service,) = compose["services"].values()
    assert {*names, *service["environment"]} <= fields


def test_folders_that_outlive_a_container_belong_to_its_user(image: Dockerfile) -> None:
    compose = yaml.safe_load((EXAMPLE / "compose.yaml").read_text())
    (service,) = compose["services"].values()
    places = [volume.partition(":")[2] for volume in service["volumes"]]
    home = {"~": "/home/comfy"}
    defaults = [str(Settings.model_fields[name].default) for name in ("cache_dir", "state_dir")]
    assert places == [default.replace("~", home["~"]) for default in defaults]
    made = next(step.text for step in image.stages[-1].all("RUN") if "mkdir" in step.text)
    assert all(place in made for place in places)


def test_the_examples_stand_on_the_image_that_is_baked(bake: dict[str, Any]) -> None:
    (tag,) = target(bake, "runtime")["tags"]
    assert {read(path).defaults["BASE"] for path in DOCKERFILES[1:]} == {tag}
    kubernetes = (CHECKOUT / "examples" / "kubernetes" / "kustomization.yaml").read_text()
    assert f"newTag: {tag.partition(':')[2]}\n" in kubernetes


@pytest.mark.parametrize(("manifest", "works"), [("pip: [numpy]", True), ("pip: [1]", False)])
def test_a_manifest_can_be_installed_while_an_image_is_built(
    manifest: str, works: bool, tmp_path: Path
) -> None:
    assert "comfyui-stateless --install-only" in (EXAMPLE / "Dockerfile").read_text()
    (tmp_path / "manifest.yaml").write_text(manifest)
    (tmp_path / "comfy").mkdir()
    for name in ("main.py", "comfy/cli_args.py"):
        (tmp_path / name).touch()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "COMFY_HOME": str(tmp_path),
        "MANIFEST": str(tmp_path / "manifest.yaml"),
        "PORT": "0",
    }
    command = [sys.executable, "-m", "comfyui_stateless", "--install-only"]
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) is works, done.stdout
    assert ("pip numpy: already there" in done.stdout) is works
