"""A manifest through the launcher: before the start, after it, wrong, and given up."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cache.origin import File, Origin, serving
from tests.launcher.running import Launched, until


@pytest.fixture
def origin() -> Iterator[Origin]:
    with serving() as origin:
        yield origin


def manifest(origin: Origin, **models: Any) -> dict[str, str]:
    listed = {
        when: [{"url": origin.url(f"/{name}"), "local_path": f"models/{name}"} for name in names]
        for when, names in models.items()
    }
    text = json.dumps({"models": listed})
    return {"MANIFEST_JSON": text, "HTTP_TRUSTED_ORIGINS": origin.url("")}


def test_models_are_there_before_the_start_and_after_it(tmp_path: Path, origin: Origin) -> None:
    gate = threading.Event()
    origin.files = {
        "/early.bin": File(b"early" * 10_000, gate=gate),
        "/late.bin": File(b"late"),
    }
    settings = manifest(origin, before_start=["early.bin"], after_start=["late.bin"])
    models = tmp_path / "home" / "models"
    with Launched(tmp_path, settings=settings) as launcher:
        until(lambda: origin.seen, "fetching")
        assert launcher.request("/ready").json["reason"] == "The manifest is being installed."
        assert launcher.pids == []
        gate.set()
        launcher.until_ready()
        assert (models / "early.bin").read_bytes() == b"early" * 10_000
        until((models / "late.bin").exists, "late")
        assert (models / "late.bin").read_bytes() == b"late"
        launcher.tell(signal.SIGTERM)
        assert launcher.ended() == 0


def test_a_model_that_cannot_be_had_ends_it_before_comfyui_starts(
    tmp_path: Path, origin: Origin
) -> None:
    with Launched(tmp_path, settings=manifest(origin, before_start=["none.bin"])) as launcher:
        assert launcher.ended() == 1
        assert "none.bin" in launcher.log
        assert launcher.pids == []


def test_a_model_that_cannot_be_had_later_stops_nothing(tmp_path: Path, origin: Origin) -> None:
    with Launched(tmp_path, settings=manifest(origin, after_start=["none.bin"])) as launcher:
        launcher.until_ready()
        until(lambda: "none.bin" in launcher.log, "told")
        assert launcher.status("/ready") == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_installs_ends_it_promptly(
    tmp_path: Path, origin: Origin, number: signal.Signals
) -> None:
    gate = threading.Event()
    origin.files = {"/slow.bin": File(b"x" * 1_000_000, gate=gate)}
    with Launched(tmp_path, settings=manifest(origin, before_start=["slow.bin"])) as launcher:
        until(lambda: origin.seen, "fetching")
        launcher.tell(number)
        assert launcher.ended(5) == 0
        assert launcher.pids == []
        gate.set()


def test_a_wrong_manifest_is_said_at_once_with_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "manifest.yml"
    file.write_text("pip: 7\nmodels:\n  before_start:\n    - url: 5\n")
    with Launched(tmp_path, settings={"MANIFEST": str(file)}) as launcher:
        assert launcher.ended() == 2
        assert "manifest.yml" in launcher.log
        assert launcher.log.startswith("[launcher] ERROR: ")


def test_the_text_outranks_the_file(tmp_path: Path) -> None:
    file = tmp_path / "manifest.yml"
    file.write_text("pip: 7\n")
    settings = {"MANIFEST": str(file), "MANIFEST_JSON": "{}"}
    with Launched(tmp_path, settings=settings) as launcher:
        launcher.until_ready()


def test_a_dry_run_tells_the_models_and_brings_none(tmp_path: Path, origin: Origin) -> None:
    origin.files = {"/early.bin": File(b"early")}
    settings = manifest(origin, before_start=["early.bin"])
    with Launched(tmp_path, settings=settings, arguments=("--dry-run",)) as launcher:
        assert launcher.ended() == 0
        assert "early.bin" in launcher.log
        assert not any("early.bin" in name for _, _, names in os.walk(tmp_path) for name in names)


def test_it_installs_and_ends_where_that_is_all_that_is_asked(
    tmp_path: Path, origin: Origin
) -> None:
    origin.files = {"/early.bin": File(b"early"), "/late.bin": File(b"late")}
    settings = manifest(origin, before_start=["early.bin"], after_start=["late.bin"])
    with Launched(tmp_path, settings=settings, arguments=("--install-only",)) as launcher:
        assert launcher.ended() == 0
        assert launcher.pids == []
        assert "Everything is installed." in launcher.log
    home = tmp_path / "home"
    assert (home / "models" / "early.bin").read_bytes() == b"early"
    assert not (home / "models" / "late.bin").exists()
    assert (home / "custom_nodes" / "comfyui-stateless").exists()


def test_it_says_so_if_it_cannot_install(tmp_path: Path, origin: Origin) -> None:
    settings = manifest(origin, before_start=["none.bin"])
    with Launched(tmp_path, settings=settings, arguments=("--install-only",)) as launcher:
        assert launcher.ended() == 1
        assert "none.bin" in launcher.log


def test_a_signal_ends_an_installation_that_is_all_that_is_asked(
    tmp_path: Path, origin: Origin
) -> None:
    origin.files = {"/slow.bin": File(b"x" * 1_000_000, gate=threading.Event())}
    settings = manifest(origin, before_start=["slow.bin"])
    with Launched(tmp_path, settings=settings, arguments=("--install-only",)) as launcher:
        until(lambda: origin.seen, "fetching")
        launcher.tell(signal.SIGTERM)
        assert launcher.ended(5) == 128 + signal.SIGTERM


def test_a_model_that_is_still_coming_delays_no_end(tmp_path: Path, origin: Origin) -> None:
    gate = threading.Event()
    origin.files = {"/late.bin": File(b"x" * 1_000_000, gate=gate)}
    with Launched(tmp_path, settings=manifest(origin, after_start=["late.bin"])) as launcher:
        launcher.until_ready()
        until(lambda: origin.seen, "fetching")
        launcher.tell(signal.SIGTERM)
        assert launcher.ended(5) == 0
        gate.set()
