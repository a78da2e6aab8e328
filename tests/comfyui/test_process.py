"""What is put back of a process when a prompt is over, and what is left as it is."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

pytest.importorskip("torch", reason="the ComfyUI here has an environment of its own")

from comfyui_stateless.host.process import Process

FILES = resource.RLIMIT_NOFILE
BEFORE = 100


def limit(files: int) -> None:
    """Have the process open no more than so many files, as ``prlimit`` does from outside."""
    resource.setrlimit(FILES, (files, resource.getrlimit(FILES)[1]))


def limited() -> int:
    return resource.getrlimit(FILES)[0]


@pytest.fixture
def process() -> Iterator[Process]:
    """This process, as it was when it could open ``BEFORE`` files."""
    soft = limited()
    limit(BEFORE)
    process = Process()
    process.remember()
    yield process
    limit(soft)


def test_a_limit_that_was_lowered_is_put_back(process: Process) -> None:
    limit(60)
    process.put_back()
    assert limited() == BEFORE


def test_a_limit_that_an_operator_has_raised_stays(process: Process) -> None:
    for files in (300, 60):
        limit(files)
        process.put_back()
        assert limited() == 300
