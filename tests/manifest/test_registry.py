"""Step 3, by name: through comfy, whose exit code alone proves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from comfyui_stateless.errors import InstallationFailed
from comfyui_stateless.manifest import plan
from tests.cache.watching import until
from tests.manifest.installing import NAME, Programs, Site, manifest_of
from tests.manifest.watching import lives

NODE = "custom_nodes:\n- comfyui-pack\n"
VERSIONED = "custom_nodes:\n- comfyui-pack@1.2.0\n"


def making(site: Site, folder: str = "comfyui-pack", version: str = "1.2.0") -> str:
    """Return a script that does what a successful ``comfy node install`` does."""
    path = site.custom_nodes / folder
    project = f'[project]\\nname = "ComfyUI-Pack"\\nversion = "{version}"\\n'
    return f'mkdir -p "{path}"; printf \'{project}\' > "{path}/pyproject.toml"'


def names(site: Site) -> list[str]:
    return sorted(path.name for path in site.custom_nodes.iterdir())


@pytest.mark.parametrize("folder", ["comfyui-pack", "ComfyUI-Pack", "some-name"])
async def test_a_node_is_installed_once_without_a_question(
    site: Site, programs: Programs, folder: str
) -> None:
    programs.add("comfy", making(site, folder))
    told = await site.install(NODE)
    assert told.outcomes == {"custom node comfyui-pack": "installed"}
    assert programs.calls("comfy") == [
        f"--workspace {site.home} --skip-prompt node install --exit-on-fail comfyui-pack"
    ]
    again = await site.install(NODE)
    assert again.outcomes == {"custom node comfyui-pack": "already there"}
    assert len(programs.calls("comfy")) == 1
    assert names(site) == [folder]


async def test_comfy_is_told_of_comfyuis_python_and_tells_nobody(
    site: Site, programs: Programs, python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDA_PREFIX", "/elsewhere")
    script = 'echo "$VIRTUAL_ENV/$CONDA_PREFIX $DO_NOT_TRACK $COMFY_NO_TELEMETRY"'
    programs.add("comfy", f"{making(site)}; {script}")
    told = await replace(site, python=python).install(NODE)
    assert told.lines == [f"{python.parents[1]}/ 1 1"]


async def test_a_version_is_installed_in_place_of_another(site: Site, programs: Programs) -> None:
    programs.add("comfy", making(site, version="1.1.0"))
    await site.install(NODE)
    assert plan(manifest_of(VERSIONED), site.place)[0].endswith(": install with comfy")
    programs.add("comfy", making(site))
    for _ in range(2):
        await site.install(VERSIONED)
    assert len(programs.calls("comfy")) == 2
    assert programs.calls("comfy")[-1].endswith(" comfyui-pack@1.2.0")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo no luck; exit 1", "comfy node install ended with 1. Its last lines:\n  no luck"),
        ("echo no luck", "; it ended with 0. Its last lines:\n  no luck"),
        ('mkdir "{folder}"', "; it ended with 0, without a word"),
        (
            "{making}; echo \"ERROR: An error occurred while installing 'comfyui-pack'.\"",
            "comfy node install ended with 0. Its last lines:\n  ERROR: An error occurred",
        ),
    ],
)
async def test_a_node_that_is_not_there_afterwards_is_named_and_leaves_nothing(
    site: Site, programs: Programs, script: str, expected: str
) -> None:
    folder = site.custom_nodes / "comfyui-pack"
    programs.add("comfy", script.format(folder=folder, making=making(site)))
    with pytest.raises(InstallationFailed) as caught:
        await site.install(NODE)
    assert caught.value.message.startswith(f"{NAME}, line 2, custom_nodes[0] (comfyui-pack): ")
    assert expected in caught.value.message
    assert not any(folder.glob("*"))


async def test_without_comfy_it_is_told_what_is_needed(site: Site) -> None:
    (todo,) = plan(manifest_of(NODE), site.place)
    assert todo == "custom node comfyui-pack: install with comfy, which is missing"
    with pytest.raises(InstallationFailed, match="needs the tool comfy, and there is none on PATH"):
        await site.install(NODE)


async def test_a_node_that_is_there_needs_no_comfy(site: Site) -> None:
    (site.custom_nodes / "comfyui-pack").mkdir()
    (site.custom_nodes / "comfyui-pack" / "__init__.py").touch()
    told = await site.install(NODE)
    assert told.outcomes == {"custom node comfyui-pack": "already there"}


async def test_an_installation_that_is_cancelled_leaves_nothing(
    site: Site, programs: Programs
) -> None:
    child = site.folder / "child"
    programs.add("comfy", f'{making(site)}; echo $$ > "{child}"; sleep 60')
    installing = asyncio.ensure_future(site.install(NODE))
    await until(lambda: child.is_file() and child.read_text())
    installing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await installing
    await until(lambda: not lives(int(child.read_text())))
    assert names(site) == []


PROGRAM = """
import asyncio, sys
from pathlib import Path
from tests.manifest.installing import Site
asyncio.run(Site(Path(sys.argv[1])).install(sys.argv[2]))
"""


async def test_an_installation_whose_process_is_killed_is_made_anew_by_the_next(
    site: Site, programs: Programs
) -> None:
    child = site.folder / "child"
    half = site.custom_nodes / "comfyui-pack" / "half"
    programs.add("comfy", f'{making(site)}; touch "{half}"; echo $$ > "{child}"; exec sleep 60')
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(site.folder), NODE, cwd=Path(__file__).parents[2]
    )
    await until(lambda: child.is_file() and child.read_text())
    process.kill()
    await process.wait()
    os.kill(int(child.read_text()), signal.SIGKILL)
    programs.add("comfy", making(site))
    told = await site.install(NODE)
    assert told.outcomes == {"custom node comfyui-pack": "installed"}
    assert not half.exists()
