"""Links in model folders, made in this process on ComfyUI's own ``folder_paths``."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.errors import InvalidInput


@pytest.fixture
def cached(base: Path) -> Path:
    path = base / "cache" / "one.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"one")
    return path


@pytest.fixture
def models(base: Path, host: Any) -> Any:
    return host.models.ModelFolders(base / "cache")


def test_a_link_that_is_right_is_left_as_it_is(cached: Path, models: Any) -> None:
    first = models.link("loras", "a.safetensors", cached)
    before = first.path.lstat()
    assert models.link("loras", "a.safetensors", cached) == first
    assert models.link("loras", "a.safetensors", cached, replace=True) == first
    after = first.path.lstat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_link_to_what_is_gone_is_replaced(base: Path, cached: Path, models: Any) -> None:
    path = models.link("loras", "a.safetensors", cached).path
    cached.unlink()
    other = base / "other.safetensors"
    other.write_bytes(b"two")
    assert models.link("loras", "a.safetensors", other).path == path
    assert path.read_bytes() == b"two"


def test_only_a_link_of_ours_is_pointed_elsewhere(base: Path, cached: Path, models: Any) -> None:
    path = models.link("loras", "a.safetensors", cached).path
    other = base / "other.safetensors"
    other.write_bytes(b"two")
    with pytest.raises(InvalidInput, match=r"a\.safetensors"):
        models.link("loras", "a.safetensors", other)
    models.link("loras", "a.safetensors", other, replace=True)
    assert path.read_bytes() == b"two"
    with pytest.raises(InvalidInput):  # it leads out of the cache now
        models.link("loras", "a.safetensors", cached, replace=True)
    path.unlink()
    path.write_bytes(b"somebody's")
    with pytest.raises(InvalidInput):
        models.link("loras", "a.safetensors", cached, replace=True)
    assert path.read_bytes() == b"somebody's"


@pytest.mark.parametrize("name", ["", "../x", "a/../../x", "/x", "a\0", "C:\\x", "out/x", "."])
def test_a_name_that_leads_out_of_the_folder_is_refused(
    base: Path, cached: Path, models: Any, name: str
) -> None:
    (base / "models" / "loras").mkdir(parents=True)
    (base / "models" / "loras" / "out").symlink_to(base / "cache")
    before = sorted(base.rglob("*"))
    with pytest.raises(InvalidInput):
        models.link("loras", name, cached)
    assert sorted(base.rglob("*")) == before


def test_the_root_of_a_folder_is_the_default_then_its_namesake_then_the_first(
    base: Path, cached: Path, models: Any, folder_paths: Any
) -> None:
    def root(folder: str) -> Path:
        path = models.link(folder, "root.safetensors", cached).path.parent
        return Path(path).relative_to(base)

    assert root("loras") == Path("models/loras")
    assert root("unet") == Path("models/diffusion_models")
    assert root("upscale") == Path("models/other")
    folder_paths.add_model_folder_path("unet", str(base / "slow"))
    assert root("unet") == Path("models/diffusion_models")
    folder_paths.add_model_folder_path("unet", str(base / "fast"), is_default=True)
    assert root("unet") == Path("fast")


def test_many_threads_that_link_the_same_leave_one_link(cached: Path, models: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        linked = list(pool.map(lambda _: models.link("loras", "a.safetensors", cached), range(64)))
    assert len(set(linked)) == 1
    assert [path.name for path in linked[0].path.parent.iterdir()] == ["a.safetensors"]


def test_a_list_that_was_begun_before_the_link_is_not_kept(
    base: Path, cached: Path, models: Any, folder_paths: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = base / "models" / "loras"
    root.mkdir(parents=True)
    before, replace = root.stat().st_mtime_ns, Path.replace

    def replace_within_one_tick(path: Path, target: Path) -> Path:
        replaced = replace(path, target)
        os.utime(root, ns=(before, before))
        return replaced

    monkeypatch.setattr(Path, "replace", replace_within_one_tick)
    stale = folder_paths.get_filename_list_("loras")
    name = models.link("loras", "a.safetensors", cached).name
    folder_paths.filename_list_cache["loras"] = stale
    assert folder_paths.get_filename_list("loras") == [name]


def test_without_symbolic_links_a_hard_link_or_a_copy_is_made(
    cached: Path, models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("not allowed here")

    monkeypatch.setattr(Path, "symlink_to", refused)
    hard = models.link("loras", "hard.safetensors", cached)
    assert hard.path.samefile(cached)
    assert not hard.path.is_symlink()
    assert models.link("loras", "hard.safetensors", cached) == hard
    monkeypatch.setattr(os, "link", refused)
    copy = models.link("loras", "copy.safetensors", cached)
    assert not copy.path.samefile(cached)
    assert copy.path.read_bytes() == b"one"
    assert models.link("loras", "copy.safetensors", cached) == copy


def test_a_whole_folder_is_linked(base: Path, models: Any) -> None:
    clone = base / "cache" / "clone"
    clone.mkdir(parents=True)
    (clone / "model_index.json").write_text("{}")
    linked = models.link("diffusers", "clone-1", clone)
    assert (linked.name, linked.path) == ("clone-1", base / "models" / "diffusers" / "clone-1")
    assert (linked.path / "model_index.json").read_text() == "{}"
    assert models.link("diffusers", "clone-1", clone) == linked


def test_the_extensions_of_a_folder_are_known(base: Path, models: Any) -> None:
    assert models.extensions("unet") == {".sft"}
    assert models.extensions("upscale") == frozenset()
    for folder in ("custom_nodes", "nothing"):
        with pytest.raises(InvalidInput, match="loras"):
            models.extensions(folder)
