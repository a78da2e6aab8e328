"""Steps 1 and 2: what is there costs nothing, what is missing is installed, failures are named."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from comfyui_stateless.errors import InstallationFailed
from comfyui_stateless.manifest import apt, plan
from tests.cache.watching import until
from tests.manifest.installing import NAME, Programs, Site, manifest_of, wheel
from tests.manifest.watching import lives

APT = "apt:\n- ffmpeg\n- libgl1=1.6\n- bash:amd64\n"

DPKG = """\
[ -f "$0.off" ] && exit 1
echo 'installed|bash|amd64|5.2'
echo 'installed|libgl1|amd64|1.5'
echo 'config-files|ffmpeg|amd64|7.1'
exit 1
"""
"""ffmpeg was removed, and libgl1 is too old."""


@pytest.fixture
def debian(programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """A Debian that is asked as root, whose lists of packages are there."""
    (lists := tmp_path / "lists").mkdir()
    (lists / "deb.example.com_main_Packages").touch()
    monkeypatch.setattr(apt, "LISTS", lists)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    programs.add("dpkg-query", DPKG)
    programs.add("apt-get", 'echo "Setting up $*"')
    return programs


def verbs(programs: Programs) -> list[str]:
    """Return what apt-get was told to do, without its options."""
    return [call.partition("--force-confold ")[2] for call in programs.calls("apt-get")]


INSTALL = "install --yes --no-install-recommends -- ffmpeg libgl1=1.6"


async def test_the_packages_that_are_missing_are_installed(debian: Programs, site: Site) -> None:
    told = await site.install(APT)
    assert verbs(debian) == [INSTALL]
    assert any(line.startswith("Setting up") for line in told.lines)
    assert told.outcomes == {
        "apt ffmpeg": "installed",
        "apt libgl1=1.6": "installed",
        "apt bash:amd64": "already there",
    }


async def test_packages_that_are_there_need_neither_apt_nor_root(
    debian: Programs, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    told = await site.install("apt:\n- bash\n- libgl1\n")
    assert set(told.outcomes.values()) == {"already there"}
    assert debian.calls("apt-get") == []


async def test_lists_that_are_not_there_are_fetched_first(debian: Programs, site: Site) -> None:
    next(apt.LISTS.iterdir()).unlink()
    await site.install(APT)
    assert verbs(debian) == ["update", INSTALL]


async def test_lists_that_are_too_old_are_fetched_after_a_failure(
    debian: Programs, site: Site
) -> None:
    debian.add("apt-get", 'case "$*" in *update) touch "$0.new";; esac; [ -f "$0.new" ]')
    await site.install(APT)
    assert verbs(debian) == [INSTALL, "update", INSTALL]


async def test_what_an_interrupted_dpkg_left_is_mended(debian: Programs, site: Site) -> None:
    debian.add("dpkg", f'touch "{debian.folder}/mended"')
    debian.add(
        "apt-get",
        f'[ -f "{debian.folder}/mended" ] || {{ echo "E: dpkg was interrupted, run"; exit 100; }}',
    )
    await site.install(APT)
    assert debian.calls("dpkg") == ["--configure --pending --force-confdef"]
    assert verbs(debian) == [INSTALL, INSTALL]


async def test_a_package_that_is_not_there_is_named_with_its_line(
    debian: Programs, site: Site
) -> None:
    debian.add("apt-get", 'echo "E: Unable to locate package ffmpeg"; exit 100')
    with pytest.raises(InstallationFailed) as caught:
        await site.install(APT)
    message = caught.value.message
    assert message.startswith(f"{NAME}, line 2, apt[0] (ffmpeg): apt-get ended with 100.")
    assert message.endswith("\n  E: Unable to locate package ffmpeg")


async def test_who_is_not_root_and_has_no_sudo_is_told_so(
    debian: Programs, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(debian.folder))
    with pytest.raises(InstallationFailed, match=r"line 2, apt\[0\] \(ffmpeg\): only root"):
        await site.install("apt:\n- ffmpeg\n")
    assert debian.calls("apt-get") == []


async def test_who_is_not_root_uses_a_sudo_that_asks_nothing(
    debian: Programs, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    debian.add("sudo")
    await site.install(APT)
    (call,) = debian.calls("sudo")
    assert call.startswith("--non-interactive env DEBIAN_FRONTEND=noninteractive")
    assert call.endswith(INSTALL)


async def test_another_system_than_debian_is_told_so(
    programs: Programs, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(programs.folder))
    with pytest.raises(InstallationFailed, match="need a Debian or Ubuntu"):
        await site.install(APT)


def packages(python: Path) -> dict[str, str]:
    """Return what is installed, by name."""
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=json"], capture_output=True, check=True
    )
    return {each["name"]: each["version"] for each in json.loads(listed.stdout)}


async def test_pip_installs_what_is_missing_and_nothing_the_second_time(
    site: Site, python: Path, wheels: Path
) -> None:
    site = replace(site, python=python)
    wheel(wheels, "tiny_one", "1.5")
    other = wheel(site.home, "tiny_two")
    text = f"pip:\n- tiny-one>=1.2\n- ./{other.name}\n- tiny-three; python_version < '3'\n"
    told = await site.install(text)
    assert told.outcomes["pip tiny-one>=1.2"] == "installed"
    assert any("Successfully installed" in line for line in told.lines)
    found = packages(python)
    assert (found["tiny_one"], found["tiny_two"]) == ("1.5", "1.0")
    again = await site.install(text)
    assert set(again.outcomes.values()) == {"already there"}
    assert again.begun_entries == []
    assert all(line.endswith("already there") for line in plan(manifest_of(text), site.place))


async def test_pip_installs_another_version_where_one_is_wanted(
    site: Site, python: Path, wheels: Path
) -> None:
    site = replace(site, python=python)
    for version in ("1.0", "2.0"):
        wheel(wheels, "tiny_moved", version)
    await site.install("pip: [tiny-moved==1.0]")
    await site.install("pip: [tiny-moved>=2]")
    assert packages(python)["tiny_moved"] == "2.0"


async def test_a_package_that_pip_cannot_find_is_named_with_its_line(
    site: Site, python: Path, wheels: Path
) -> None:
    site = replace(site, python=python)
    wheel(wheels, "tiny_four")
    with pytest.raises(InstallationFailed) as caught:
        await site.install("pip:\n- tiny-four\n- tiny-none>=3\n")
    message = caught.value.message
    assert message.startswith(f"{NAME}, line 3, pip[1] (tiny-none>=3): pip ended with 1.")
    assert "No matching distribution found for tiny-none>=3" in message
    assert "tiny_four" not in packages(python)


async def test_packages_that_do_not_fit_each_other_are_both_named(
    site: Site, python: Path, wheels: Path
) -> None:
    site = replace(site, python=python)
    for version in ("1.0", "2.0"):
        wheel(wheels, "tiny_five", version)
    with pytest.raises(InstallationFailed, match="lines 2 to 3"):
        await site.install("pip:\n- tiny-five<2\n- tiny-five>=2\n")


async def test_uv_is_used_where_there_is_one_and_a_token_is_among_no_arguments(
    site: Site, python: Path, programs: Programs
) -> None:
    site = replace(site, python=python)
    url = "https://user:hush@example.com/pack-1.0-py3-none-any.whl?token=hush"
    programs.add("uv", f'cat > "{site.folder}/stdin"; echo "Installed {url}"')
    told = await site.install(f"pip:\n- tiny-six\n- {url}\n")
    assert programs.calls("uv") == [f"pip install --python {python} --requirement -"]
    assert (site.folder / "stdin").read_text() == f"tiny-six\n{url}\n"
    assert told.lines == ["Installed https://example.com/pack-1.0-py3-none-any.whl?…"]


async def test_a_failure_of_uv_shows_its_last_words_without_secrets(
    site: Site, python: Path, programs: Programs
) -> None:
    site = replace(site, python=python)
    programs.add("uv", "echo 'error: https://u:hush@example.com/x?hush says no'; exit 2")
    with pytest.raises(InstallationFailed) as caught:
        await site.install("pip:\n- tiny-seven\n")
    assert "uv ended with 2" in caught.value.message
    assert "https://example.com/x?… says no" in caught.value.message
    assert "hush" not in str(caught.value.body())


async def test_a_proxy_of_the_settings_reaches_the_installer(
    site: Site, python: Path, programs: Programs
) -> None:
    site = replace(site, python=python, chosen={"http_proxy": "http://p:3128", "no_proxy": "a"})
    programs.add("uv", 'echo "$http_proxy $no_proxy"')
    assert (await site.install("pip: [tiny-eight]")).lines == ["http://p:3128 a"]


async def test_a_python_that_does_not_run_is_told(site: Site) -> None:
    site = replace(site, python=site.home / "python")
    with pytest.raises(InstallationFailed, match=r"ComfyUI's Python, .*/python, cannot be started"):
        await site.install("pip: [six]")


async def test_an_installer_that_is_cancelled_ends_with_what_it_has_started(
    site: Site, python: Path, programs: Programs
) -> None:
    site = replace(site, python=python)
    programs.add("uv", f'sleep 60 & echo $! > "{site.folder}/child"; wait')
    installing = asyncio.ensure_future(site.install("pip: [tiny-nine]"))
    child = site.folder / "child"
    await until(lambda: child.is_file() and child.read_text())
    installing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await installing
    await until(lambda: not lives(int(child.read_text())))


def test_a_plan_says_what_would_be_installed(debian: Programs, site: Site, python: Path) -> None:
    site = replace(site, python=python)
    lines = plan(manifest_of(f"{APT}pip: [pip, tiny-ten, 'pip[x]']"), site.place)
    assert lines == [
        "apt: install ffmpeg",
        "apt: install libgl1=1.6",
        "apt: bash:amd64, already there",
        "pip: pip (with pip), already there",
        "pip: install tiny-ten (with pip)",
        "pip: install pip[x] (with pip), unless it is there",
    ]
    assert debian.calls("apt-get") == []
