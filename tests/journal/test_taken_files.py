"""What a node of the same process can do to the journal's files: close them, delete them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import pytest

from comfyui_stateless.journal import NewJob
from comfyui_stateless.journal.files import INLINE_BYTES
from comfyui_stateless.journal.journal import Journal

LARGE = b"large " * INLINE_BYTES


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "state")
    yield journal
    await journal.close()


def job(run_id: str) -> NewJob:
    return NewJob(run_id, run_id, LARGE)


def opened_below(folder: Path) -> list[int]:
    """Return the descriptors of this process that are of files in a folder."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the list itself
            if descriptor.readlink().is_relative_to(folder):
                found.append(int(descriptor.name))
    return found


def close_all(folder: Path) -> list[int]:
    numbers = opened_below(folder)
    for number in numbers:
        os.close(number)
    return numbers


async def runs(journal: Journal) -> list[str]:
    return [left.run_id for left in await journal.unfinished()]


async def after_a_restart(journal: Journal) -> list[str]:
    """Return what a process finds that starts when this one was killed."""
    copy = journal.folder.with_name("copy")
    await asyncio.to_thread(os.system, f"cp -r '{journal.folder}' '{copy}'")
    again = await Journal.open(copy)
    try:
        return await runs(again)
    finally:
        await again.close()


async def test_a_journal_whose_files_were_closed_goes_on_with_all_that_it_knew(
    journal: Journal,
) -> None:
    await journal.accept(job("one"))
    for number in range(2, 5):  # each time anew
        assert len(close_all(journal.folder)) >= 5
        await journal.accept(job(f"{number}"))
        close_all(journal.folder)
        assert await runs(journal) == ["one", *(f"{n}" for n in range(2, number + 1))]
    assert await journal.finish("2", {}) == []
    assert await after_a_restart(journal) == ["one", "3", "4"]


async def test_files_that_get_the_numbers_of_those_that_were_closed_stay_as_they_are(
    journal: Journal, tmp_path: Path
) -> None:
    await journal.accept(job("one"))
    closed = close_all(journal.folder)
    others: list[BinaryIO] = []
    while not {other.fileno() for other in others} >= set(closed):
        path = tmp_path / f"{len(others)}"
        path.write_bytes(b"theirs")
        others.append(path.open("r+b"))
    await journal.accept(job("two"))
    await journal.close()
    for other in others:
        assert other.read() == b"theirs"
        other.close()
    again = await Journal.open(journal.folder)
    assert await runs(again) == ["one", "two"]
    await again.close()


async def test_what_waits_while_files_are_closed_is_done(journal: Journal) -> None:
    # Where they are closed just as a transaction begins, SQLite tries for ten seconds to lock them.
    jobs = [NewJob(f"{n}", f"{n}", b"{}") for n in range(100)]
    accepting = [asyncio.create_task(journal.accept(job)) for job in jobs]
    await asyncio.wait(accepting, return_when=asyncio.FIRST_COMPLETED)
    close_all(journal.folder)
    await asyncio.gather(*accepting)
    assert len(await after_a_restart(journal)) == 100


async def test_a_folder_whose_lock_was_closed_is_ours_again(journal: Journal) -> None:
    close_all(journal.folder)
    await journal.accept(job("one"))
    beside = await Journal.open(journal.folder)
    assert beside.folder == journal.folder / "2"
    await beside.close()


@pytest.mark.parametrize("part", ["-wal", "-shm"])
async def test_a_part_that_was_deleted_is_there_again_and_nothing_is_lost(
    journal: Journal, part: str
) -> None:
    await journal.accept(job("before"))
    (journal.folder / f"journal.sqlite3{part}").unlink()
    await journal.accept(job("after"))
    assert await after_a_restart(journal) == ["before", "after"]


async def test_a_part_that_was_deleted_is_noticed_without_a_job(journal: Journal) -> None:
    await journal.accept(job("before"))
    (journal.folder / "journal.sqlite3-wal").unlink()
    await journal.sweep()
    assert await after_a_restart(journal) == ["before"]
