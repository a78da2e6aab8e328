"""A folder is read-only for a while, or what is in it is deleted by hand, while the server runs."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.arena import Arena
from tests.chaos.checker import Checker
from tests.chaos.traffic import HOOK, MADE, SYNC, Traffic
from tests.comfyui.server import ComfyServer, Install

READ_ONLY_S = 3.0

ERRORS = {
    "input": {"invalid_input", "folder_failed"},
    "output": {"execution_error", "storage_error"},
    "temp": {"execution_error", "storage_error"},
}
"""By folder: where the journal and the cache are, files stay open, and no disk is remounted."""

TAKEN_AWAY = {
    # What ComfyUI's nodes say where their file is gone, and its thread dies of where the folder is.
    "input": {"invalid_input", "invalid_prompt", "execution_error", "folder_failed", "worker_died"},
    "output": {"execution_error", "storage_error"},
    "temp": {"execution_error", "storage_error"},
    "cache": {"folder_failed", "execution_error"},
}


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Have a folder that is a mount point read-only for the block."""
    _remount(folder, "ro")
    try:
        yield
    finally:
        _remount(folder, "rw")


def _remount(folder: Path, mode: str) -> None:
    for _ in range(100):
        command = ["mount", "-o", f"remount,bind,{mode}", str(folder)]
        if not subprocess.run(command, capture_output=True, check=False).returncode:
            return
        time.sleep(0.02)  # a file is being written
    pytest.fail(f"{folder} cannot be remounted")


@pytest.mark.parametrize("name", list(ERRORS))
def test_a_folder_is_read_only_for_a_while(
    arena: Arena, traffic: Traffic, checker: Checker, name: str
) -> None:
    with traffic.flowing():
        time.sleep(0.5)
        with read_only(arena.folder(name)):
            time.sleep(READ_ONLY_S)
        time.sleep(0.5)
    assert len(traffic.sent) > 10
    checker.require(traffic, ERRORS[name])


def test_all_of_the_cache_is_deleted_again_and_again(
    arena: Arena, traffic: Traffic, checker: Checker
) -> None:
    with traffic.flowing():
        for _ in range(8):
            time.sleep(0.5)
            emptied(arena.folder("cache"))
    checker.require(traffic, TAKEN_AWAY["cache"])


def test_all_of_the_journal_is_deleted(arena: Arena, traffic: Traffic, checker: Checker) -> None:
    traffic.kinds = ((MADE, HOOK),)
    emptied(arena.folder("state"))
    with traffic.flowing():
        time.sleep(2.0)
    refused = [job for job in traffic.sent if job.reply and job.reply.status != 202]
    assert len(refused) == len(traffic.sent) > 5
    made = Traffic(arena, kinds=((MADE, SYNC),))
    with made.flowing():
        time.sleep(1.0)
    arena.server.stop()
    checker.require(traffic, {"storage_error"})
    checker.require(made, set())
    later = Traffic(arena)
    with later.flowing():
        time.sleep(1.0)
    checker.require(later, set())


@pytest.mark.parametrize("name", ["input", "output", "temp"])
def test_all_of_a_folder_of_comfyui_is_deleted_again_and_again(
    arena: Arena, traffic: Traffic, checker: Checker, name: str
) -> None:
    with traffic.flowing():
        for _ in range(12):
            time.sleep(0.3)
            emptied(arena.folder(name))
    assert len(traffic.sent) > 10
    checker.require(traffic, TAKEN_AWAY[name])


@pytest.mark.parametrize("name", ["input", "output", "temp", "cache"])
def test_a_folder_goes_and_comes_back_as_a_link_while_jobs_run(
    arena: Arena, install: Install, tmp_path: Path, name: str
) -> None:
    with ComfyServer(install, tmp_path / "comfyui", arena.server.env) as server:
        movable = replace(arena, server=server)
        movable.up()
        checker, traffic = Checker(movable), Traffic(movable)
        folder, elsewhere = movable.folder(name), tmp_path / "elsewhere"
        with traffic.flowing():
            time.sleep(1.0)
            folder.rename(elsewhere)
            time.sleep(1.0)
            while not folder.is_symlink():
                shutil.rmtree(folder, ignore_errors=True)  # made anew by what needs it
                with suppress(FileExistsError):
                    folder.symlink_to(elsewhere)
            time.sleep(2.0)
        checker.require(traffic, TAKEN_AWAY[name])
        again = Traffic(movable)
        with again.flowing():
            time.sleep(1.0)
        checker.require(again, set())


def emptied(folder: Path) -> None:
    """Delete what is in a folder, as somebody does by hand."""
    for path in folder.iterdir():
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
