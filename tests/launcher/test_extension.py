"""Putting the extension into ``custom_nodes``: from a checkout here, from a wheel in tests/package."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfyui_stateless.errors import ConfigError
from comfyui_stateless.launcher import extension

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def custom_nodes(tmp_path: Path) -> Path:
    return tmp_path / "ComfyUI" / "custom_nodes"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as a wheel lays it out, in place of this checkout."""
    package = tmp_path / "site-packages" / "comfyui_stateless"
    (package / "custom_node" / "js").mkdir(parents=True)
    (package / "custom_node" / "__init__.py").write_text("entry = 1")
    (package / "custom_node" / "js" / "panel.js").touch()
    (package / "plugin.py").touch()
    monkeypatch.setattr(extension, "PACKAGE", package)
    return package


def copy_at(folder: Path, name: str = "comfyui-stateless") -> Path:
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n')
    return folder


def test_a_checkout_is_linked_as_it_is(custom_nodes: Path) -> None:
    place = extension.link(custom_nodes)
    assert place == custom_nodes / "comfyui-stateless"
    assert place.samefile(CHECKOUT)


def test_linking_again_changes_nothing(custom_nodes: Path) -> None:
    before = extension.link(custom_nodes).lstat().st_ino
    assert extension.link(custom_nodes).lstat().st_ino == before


def test_a_link_that_leads_nowhere_is_replaced(custom_nodes: Path, tmp_path: Path) -> None:
    custom_nodes.mkdir(parents=True)
    (custom_nodes / "comfyui-stateless").symlink_to(tmp_path / "gone")
    assert extension.link(custom_nodes).samefile(CHECKOUT)


def test_a_copy_under_any_name_stays(custom_nodes: Path) -> None:
    copy = copy_at(custom_nodes / "my-api")
    assert extension.link(custom_nodes) == copy
    assert list(custom_nodes.iterdir()) == [copy]


def test_a_disabled_copy_and_other_packs_do_not_count(custom_nodes: Path) -> None:
    copy_at(custom_nodes / "comfyui-stateless.disabled")
    copy_at(custom_nodes / "another-pack", name="another-pack")
    (custom_nodes / "example.py").touch()
    assert extension.link(custom_nodes) == custom_nodes / "comfyui-stateless"


def test_something_else_under_our_name_stays_and_is_named(custom_nodes: Path) -> None:
    (custom_nodes / "comfyui-stateless").mkdir(parents=True)
    with pytest.raises(ConfigError, match="comfyui-stateless is there and is not this extension"):
        extension.link(custom_nodes)
    assert (custom_nodes / "comfyui-stateless").is_dir()


def test_a_wheel_gets_a_folder_with_entry_package_and_scripts(
    custom_nodes: Path, wheel: Path
) -> None:
    place = extension.link(custom_nodes)
    assert (place / "__init__.py").read_text() == "entry = 1"
    assert (place / "comfyui_stateless" / "plugin.py").samefile(wheel / "plugin.py")
    assert (place / "js" / "panel.js").exists()
    assert not place.is_symlink()


@pytest.mark.usefixtures("wheel")
def test_the_folder_of_a_wheel_is_made_once(custom_nodes: Path) -> None:
    before = extension.link(custom_nodes).stat().st_ino
    assert extension.link(custom_nodes).stat().st_ino == before


def test_another_python_takes_the_folder_over(
    custom_nodes: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extension.link(custom_nodes)
    other = wheel.rename(wheel.with_name("moved"))
    monkeypatch.setattr(extension, "PACKAGE", other)
    place = extension.link(custom_nodes)
    assert (place / "moved" / "plugin.py").samefile(other / "plugin.py")
    assert [entry.name for entry in custom_nodes.iterdir()] == ["comfyui-stateless"]
    assert not (place / "comfyui_stateless").is_symlink()


def test_a_wheel_without_its_entry_says_so(custom_nodes: Path, wheel: Path) -> None:
    (wheel / "custom_node" / "__init__.py").unlink()
    with pytest.raises(ConfigError, match="install comfyui-stateless again"):
        extension.link(custom_nodes)


def test_a_file_in_the_place_of_the_folder_is_named(custom_nodes: Path) -> None:
    custom_nodes.parent.mkdir()
    custom_nodes.touch()
    with pytest.raises(ConfigError, match=r"cannot be linked to .*custom_nodes"):
        extension.link(custom_nodes)
