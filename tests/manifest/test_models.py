"""Steps 4 and 5: models through the shared cache, at the paths that the manifest names."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.cache import Cache
from comfyui_stateless.cache.names import key_of
from comfyui_stateless.errors import InstallationFailed, ManifestError
from comfyui_stateless.manifest import install_later, models, plan, release
from comfyui_stateless.storage.backends import open_backends
from tests.cache.origin import Origin
from tests.cache.watching import until
from tests.manifest.installing import Site, Told, manifest_of

CONTENT = b"model" * 1000


def wanted(*entries: tuple[str, str | Path], when: str = "before_start", **more: Any) -> str:
    models = [{"url": url, "local_path": str(path), **more} for url, path in entries]
    return json.dumps({"models": {when: models}}, indent=1)


def kept(site: Site) -> list[str]:
    """Return the URLs' keys whose files are in the cache."""
    sides = (".lock", ".meta")
    return sorted(p.stem for p in site.settings.cache_dir.iterdir() if p.suffix not in sides)


async def test_a_model_is_a_link_into_the_cache_and_is_fetched_once(
    site: Site, origin: Origin
) -> None:
    url = origin.put("/a.safetensors", CONTENT)
    text = wanted((url, "models/checkpoints/sub/x.safetensors"))
    told = await site.install(text)
    path = site.home / "models" / "checkpoints" / "sub" / "x.safetensors"
    assert path.readlink() == site.settings.cache_dir / f"{key_of(url)}.safetensors"
    assert path.read_bytes() == CONTENT
    assert told.steps == ["models"]
    asked = len(origin.seen)
    again = await site.install(text)
    assert list(again.outcomes.values()) == ["already there"]
    assert len(origin.seen) == asked
    assert [p.name for p in path.parent.iterdir()] == [path.name]


async def test_an_absolute_path_is_taken_as_it_is(site: Site, origin: Origin) -> None:
    path = site.folder / "elsewhere" / "x.bin"
    await site.install(wanted((origin.put("/a.bin", CONTENT), path)))
    assert path.read_bytes() == CONTENT


async def test_the_extension_finds_the_model_in_the_cache(site: Site, origin: Origin) -> None:
    url = origin.put("/a.safetensors", CONTENT)
    await site.install(wanted((url, "x.safetensors")))
    asked = len(origin.seen)
    backends = open_backends(site.settings, trusting=True)
    cache = Cache(site.settings.cache_dir, backends.for_url)
    try:
        lease = await cache.fetch(url)
        assert lease.was_cached
        lease.release()
    finally:
        await cache.close()
        backends.close()
    assert len(origin.seen) == asked


async def test_a_file_that_is_there_stays(site: Site, origin: Origin) -> None:
    (site.home / "x.safetensors").write_bytes(b"mine")
    told = await site.install(wanted((origin.put("/a", CONTENT), "x.safetensors")))
    assert (site.home / "x.safetensors").read_bytes() == b"mine"
    assert list(told.outcomes.values()) == ["already there"]
    assert origin.seen == []


async def test_a_link_of_somebody_elses_stays(site: Site, origin: Origin) -> None:
    (site.folder / "mine").write_bytes(b"mine")
    (site.home / "x").symlink_to(site.folder / "mine")
    await site.install(wanted((origin.put("/a", CONTENT), "x")))
    assert (site.home / "x").read_bytes() == b"mine"


async def test_a_link_that_leads_nowhere_is_replaced(site: Site, origin: Origin) -> None:
    (site.home / "x").symlink_to(site.folder / "gone")
    await site.install(wanted((origin.put("/a", CONTENT), "x")))
    assert (site.home / "x").read_bytes() == CONTENT


async def test_another_url_for_the_same_path_brings_another_file(
    site: Site, origin: Origin
) -> None:
    await site.install(wanted((origin.put("/old", b"old"), "x")))
    await site.install(wanted((origin.put("/new", b"new"), "x")))
    assert (site.home / "x").read_bytes() == b"new"


async def test_models_come_side_by_side(site: Site, origin: Origin) -> None:
    gate = threading.Event()
    urls = [origin.put(f"/{n}.bin", CONTENT * 10, gate=gate) for n in range(3)]
    installing = asyncio.ensure_future(
        site.install(wanted(*((url, f"{n}.bin") for n, url in enumerate(urls))))
    )
    await until(lambda: origin.busy == 3)
    gate.set()
    await installing


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"failures": [(404, {})] * 9}, "There is nothing at|404|no "),
        ({"authorization": "x"}, "401|credentials|denied"),
        ({"media_type": "text/html"}, "gives a web page"),
    ],
)
async def test_a_model_that_cannot_be_had_is_named_with_its_line(
    site: Site, origin: Origin, how: dict[str, Any], expected: str
) -> None:
    good = origin.put("/good", CONTENT)
    bad = origin.put("/bad?token=hush", b"<html>", **how)
    with pytest.raises(InstallationFailed, match=expected) as caught:
        await site.install(wanted((good, "good"), (bad, "bad")))
    shown = origin.url("/bad?…")
    place = f"manifest.yml, line 8, models.before_start[1] ({shown}): "
    assert caught.value.message.startswith(place)
    assert "hush" not in str(caught.value.body())
    assert not (site.home / "bad").is_symlink()


async def test_another_content_than_the_digest_says_is_refused(site: Site, origin: Origin) -> None:
    url, digest = origin.put("/a", CONTENT), sha256(CONTENT).hexdigest()
    with pytest.raises(InstallationFailed, match="sha256"):
        await site.install(wanted((url, "x"), sha256="0" * 64))
    assert not (site.home / "x").is_symlink()
    await site.install(wanted((url, "x"), sha256=digest.upper()))
    assert (site.home / "x").read_bytes() == CONTENT


async def test_a_path_that_is_a_folder_is_told(site: Site, origin: Origin) -> None:
    text = wanted((origin.put("/a", CONTENT), "custom_nodes"))
    assert "impossible" in plan(manifest_of(text), site.place)[0]
    with pytest.raises(InstallationFailed, match="custom_nodes is a folder"):
        await site.install(text)


async def test_a_path_that_cannot_be_made_is_told(site: Site, origin: Origin) -> None:
    (site.home / "file").touch()
    with pytest.raises(InstallationFailed, match=r"models\.before_start\[0\].*cannot be made"):
        await site.install(wanted((origin.put("/a", CONTENT), "file/x")))


async def test_a_cache_that_cannot_be_made_is_told(site: Site, origin: Origin) -> None:
    (site.folder / "file").touch()
    site = replace(site, chosen={"cache_dir": site.folder / "file" / "cache"})
    with pytest.raises(InstallationFailed, match=r"CACHE_DIR, .*cannot be used"):
        await site.install(wanted((origin.put("/a", CONTENT), "x")))


async def test_one_path_in_two_forms_is_refused_before_anything_is_done(
    site: Site, origin: Origin
) -> None:
    url = origin.put("/a", CONTENT)
    text = wanted((url, "models/x"), (url, site.home / "models" / "x"))
    with pytest.raises(ManifestError, match=r"is that of models\.before_start\[0\] in line 4"):
        await site.install(text)
    assert origin.seen == []


async def test_a_download_that_is_cancelled_is_resumed_by_the_next(
    site: Site, origin: Origin
) -> None:
    gate = threading.Event()
    url = origin.put("/a.safetensors", CONTENT * 100, gate=gate)
    installing = asyncio.ensure_future(site.install(wanted((url, "x"))))
    await until(lambda: origin.busy)
    installing.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await installing
    assert not (site.home / "x").is_symlink()
    await site.install(wanted((url, "x")))
    assert (site.home / "x").read_bytes() == CONTENT * 100


def limited(site: Site) -> Site:
    """Return a site whose cache has room for less than one model."""
    return replace(site, chosen={"lru_cache_size_gb": len(CONTENT) / 2 / 1024**3})


async def start_extension(site: Site) -> None:
    """Do with the cache what ComfyUI's side does when it starts."""
    backends = open_backends(site.settings)
    limit = site.settings.cache_bytes
    cache = Cache(site.settings.cache_dir, backends.for_url, limit_bytes=limit)
    await cache.start()
    await cache.close()
    backends.close()


@pytest.mark.parametrize("is_second_start", [False, True])
async def test_the_limit_of_the_cache_does_not_remove_a_model_of_the_manifest(
    site: Site, origin: Origin, is_second_start: bool
) -> None:
    site, url = limited(site), origin.put("/a.bin", CONTENT)
    told = await site.install(wanted((url, "x.bin")))
    assert "more than LRU_CACHE_SIZE_GB" in told.warnings[0]
    if is_second_start:
        release()
        await site.install(wanted((url, "x.bin")))
        assert len(origin.gets()) == 1
    await start_extension(site)
    assert (site.home / "x.bin").read_bytes() == CONTENT


async def test_a_model_for_after_the_start_is_held_before_the_cache_makes_room(
    site: Site, origin: Origin
) -> None:
    site, url = limited(site), origin.put("/a.bin", CONTENT)
    await site.install_later(wanted((url, "x.bin"), when="after_start"))
    release()
    later = json.loads(wanted((url, "x.bin"), when="after_start"))
    sooner = json.loads(wanted((origin.put("/b.bin", CONTENT), "y.bin")))
    later["models"].update(sooner["models"])
    await site.install(json.dumps(later))
    assert (site.home / "x.bin").is_file()
    assert (site.home / "y.bin").is_file()


async def test_a_model_that_nobody_holds_leaves_with_its_link(site: Site, origin: Origin) -> None:
    site, url = limited(site), origin.put("/a.bin", CONTENT)
    await site.install(wanted((url, "x.bin")))
    release()
    await start_extension(site)
    assert kept(site) == []
    assert not (site.home / "x.bin").is_symlink()


LATER = partial(wanted, when="after_start")


async def later(site: Site, text: str, *delays: float) -> Told:
    told = Told()
    await models.install_later(manifest_of(text), site.place, told, delays)
    return told


async def test_a_model_after_the_start_is_tried_again(site: Site, origin: Origin) -> None:
    url = origin.put("/a", CONTENT, failures=[(404, {})] * 2)
    told = await later(site, LATER((url, "x")), 0.01, 0.01)
    assert (site.home / "x").read_bytes() == CONTENT
    assert [w.rpartition("(")[2] for w in told.warnings] == ["again in 0.01 s)"] * 2
    assert told.warnings[0].startswith("manifest.yml, line 4, models.after_start[0]")


async def test_a_model_after_the_start_that_cannot_be_had_harms_nothing(
    site: Site, origin: Origin
) -> None:
    text = LATER((origin.url("/none"), "none"), (origin.put("/a", CONTENT), "x"))
    told = await later(site, text, 0.01)
    assert [w.rpartition("(")[2] for w in told.warnings] == [
        "again in 0.01 s)",
        "it is not tried again)",
    ]
    assert (site.home / "x").is_file()


async def test_a_cache_that_cannot_be_made_is_only_told_after_the_start(
    site: Site, origin: Origin
) -> None:
    (site.folder / "file").touch()
    site = replace(site, chosen={"cache_dir": site.folder / "file" / "cache"})
    told = Told()
    manifest = manifest_of(LATER((origin.put("/a", CONTENT), "x")))
    await install_later(manifest, site.place, report=told)
    assert "CACHE_DIR" in told.warnings[0]


async def test_without_models_for_after_the_start_nothing_is_touched(site: Site) -> None:
    assert (await site.install_later("apt: []")).steps == []
    assert not site.settings.cache_dir.exists()


def test_a_plan_says_what_a_model_costs_and_does_nothing(site: Site, origin: Origin) -> None:
    (site.home / "there").write_bytes(b"x")
    url = origin.put("/a.bin?token=hush", CONTENT)
    both = json.loads(wanted((url, "x"), (url, "there"), (origin.url("/none"), "y")))
    both["models"]["after_start"] = [{"url": f"{url}&b", "local_path": "z"}]
    lines = plan(manifest_of(json.dumps(both)), site.place)
    shown = origin.url("/a.bin?…")
    assert lines[0] == f"model x: download {shown} to {site.home}/x, 4.9 KiB"
    assert lines[1] == f"model there: {site.home}/there, already there"
    assert "it cannot be had now" in lines[2]
    assert lines[3].startswith("model z after the start: download")
    assert "hush" not in "\n".join(lines)
    assert not site.settings.cache_dir.exists()
    assert origin.gets() == []


async def test_a_plan_knows_what_is_in_the_cache(site: Site, origin: Origin) -> None:
    url = origin.put("/a.bin", CONTENT)
    await site.install(wanted((url, "x")))
    (line,) = plan(manifest_of(wanted((url, "y"))), site.place)
    assert line == f"model y: link {site.home}/y to the file in the cache"


async def test_it_is_told_how_far_a_model_is(
    site: Site, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "TOLD_EVERY_S", 0.01)
    gate = threading.Event()
    url, told = origin.put("/a.bin", CONTENT * 100, gate=gate), Told()
    manifest = manifest_of(wanted((url, "x")))
    installing = asyncio.ensure_future(models.install(manifest, site.place, told))
    await until(lambda: told.moves and told.moves[-1][2])
    gate.set()
    await installing
    assert told.moves[-1][0] == "model x"
    assert told.moves[-1][2] == 500_000
