"""What a process may have runs out: descriptors, and entries of a file system."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.arena import DISKS_MIB, Arena
from tests.chaos.checker import Checker
from tests.chaos.limits import held_to
from tests.chaos.test_disks import ERRORS
from tests.chaos.traffic import Traffic

SHORT_S = 3.0
SPARE = (-20, -8, 0, 4)
"""Descriptors that are left: none until many are closed, few, enough for the beginning of a job."""

NO_DESCRIPTORS = {
    "delivery_failed", "execution_error", "invalid_input", "invalid_prompt", "storage_error",
    "folder_failed", "out_of_descriptors",
    "worker_died",  # ComfyUI makes an event loop for each prompt
    "crashed", "unavailable",
}  # fmt: skip


@contextmanager
def few_descriptors(pid: int, spare: int) -> Iterator[None]:
    """Let a process open few more files and connections than it has open now, for the block."""
    most = len(list(Path(f"/proc/{pid}/fd").iterdir())) + spare
    with held_to(pid, resource.RLIMIT_NOFILE, most):
        yield


@contextmanager
def few_entries(folder: Path, spare: int) -> Iterator[None]:
    """Let a folder that is a disk of its own take few more files, for the block."""
    found = os.statvfs(folder)
    _remount(folder, found.f_files - found.f_ffree + spare)
    try:
        yield
    finally:
        _remount(folder, found.f_files)


def _remount(folder: Path, entries: int) -> None:
    for _ in range(100):
        command = ["mount", "-o", f"remount,nr_inodes={entries}", str(folder)]
        if not subprocess.run(command, capture_output=True, check=False).returncode:
            return
        time.sleep(0.02)  # more are there than a moment ago
        found = os.statvfs(folder)
        entries = max(entries, found.f_files - found.f_ffree)
    pytest.fail(f"{folder} cannot be remounted")


def test_a_process_is_out_of_descriptors_under_load(
    arena: Arena, traffic: Traffic, checker: Checker
) -> None:
    assert arena.server.process is not None
    pid = arena.server.process.pid
    with traffic.flowing():
        time.sleep(1.0)
        for spare in SPARE:
            with few_descriptors(pid, spare):
                time.sleep(SHORT_S)
            time.sleep(0.5)
    assert len(traffic.sent) > 10
    assert arena.server.process.pid == pid
    assert os.strerror(errno.EMFILE) in arena.server.log
    checker.files_are_whole()
    # A new process: the old one may take the limit for its own, and tells of coroutines of ComfyUI's.
    arena.server.stop()
    arena.up()
    checker.nothing_is_lost(traffic)
    checker.nothing_is_mixed(traffic)
    checker.only_these_errors(traffic, NO_DESCRIPTORS)
    checker.nothing_is_left()
    checker.no_secret_is_told(traffic)


@pytest.mark.parametrize("name", list(DISKS_MIB))
def test_a_disk_takes_no_more_files_for_a_while(
    arena: Arena, traffic: Traffic, checker: Checker, name: str
) -> None:
    with traffic.flowing():
        time.sleep(0.5)
        for spare in (0, 2):
            with few_entries(arena.folder(name), spare):
                time.sleep(SHORT_S)
        time.sleep(0.5)
    assert len(traffic.sent) > 10
    checker.require(traffic, ERRORS[name])
