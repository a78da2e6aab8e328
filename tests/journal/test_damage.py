"""A journal whose bytes were changed while nobody had it open: it is told, and never in the way."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from comfyui_stateless.errors import StorageError
from comfyui_stateless.journal import DueMessage, NewJob
from comfyui_stateless.journal.journal import Journal, Limits
from comfyui_stateless.journal.schema import DATABASE

ROUNDS = int(os.environ.get("STATELESS_TEST_DAMAGES", "40"))
SEED = int(os.environ.get("STATELESS_TEST_SEED", "9"))

LIMITS = Limits(result_ttl_s=1e9)

Change = Callable[[random.Random, bytearray], bytearray]


async def opened(folder: Path) -> Journal:
    return await Journal.open(folder, LIMITS)


@pytest.fixture
async def filled(tmp_path: Path) -> Path:
    """A folder with a closed journal that has jobs, messages and results."""
    journal = await opened(tmp_path / "filled")
    for n in range(6):
        picture = {f"{n}.png": bytes([n]) * 20_000}
        await journal.accept(NewJob(f"run-{n}", f"id {n}", b'{"a": 1}' * 200, files=picture))
    for n in range(3):
        message = DueMessage(f"msg_{n}", "https://receiver.example/", b"{}")
        await journal.finish(f"run-{n}", {"prompt": {}}, [message], {"0": b"z" * 30_000})
    await journal.close()
    return tmp_path / "filled"


async def is_usable(folder: Path) -> None:
    """Do with a journal all that a server does."""
    journal = await opened(folder)
    try:
        await read(journal)
        await journal.accept(NewJob("new", "new", b"{}"))
        assert await journal.begin_attempt("new") == 1
        message = DueMessage("msg_new", "https://receiver.example/", b"{}")
        await journal.finish("new", {"prompt": {}}, [message])
        assert "msg_new" in {due.message_id for due in await journal.due_messages()}
        await journal.sweep()
    finally:
        await journal.close()


def asides(folder: Path) -> list[Path]:
    return list(folder.glob("damaged-*"))


async def read(journal: Journal) -> None:
    await journal.stats()
    await journal.given_up()
    for job in await journal.unfinished():
        with suppress(LookupError, OSError):  # what was damaged is that job's alone
            (await journal.job_contents(job.run_id)).request.read()
    for n in range(3):
        with suppress(StorageError):
            await journal.result(f"id {n}")


def one_byte(chance: random.Random, content: bytearray) -> bytearray:
    content[chance.randrange(len(content))] = chance.randrange(256)
    return content


def many_bits(chance: random.Random, content: bytearray) -> bytearray:
    for _ in range(50):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return content


def cut_off(chance: random.Random, content: bytearray) -> bytearray:
    return content[: chance.randrange(len(content))]


def a_lost_sector(chance: random.Random, content: bytearray) -> bytearray:
    at = chance.randrange(len(content) - 512)
    content[at : at + 512] = bytes(512)
    return content


def more_behind_it(chance: random.Random, content: bytearray) -> bytearray:
    return content + chance.randbytes(5000)


@pytest.mark.parametrize(
    "change",
    [one_byte, many_bits, cut_off, a_lost_sector, more_behind_it],
    ids=lambda c: c.__name__,
)
async def test_a_journal_can_be_used_whatever_happened_to_its_bytes(
    filled: Path, tmp_path: Path, change: Change
) -> None:
    print(f"STATELESS_TEST_SEED={SEED}")  # noqa: T201  pytest shows it with a failure
    chance, folder = random.Random(SEED), tmp_path / "state"
    content = (filled / DATABASE).read_bytes()
    for _ in range(ROUNDS // 5):
        shutil.copytree(filled, folder)
        (folder / DATABASE).write_bytes(change(chance, bytearray(content)))
        await is_usable(folder)
        shutil.rmtree(folder)


def of_another_writer(content: bytes) -> bytes:
    return content[:18] + b"\x03" + content[19:]


def of_another_format(content: bytes) -> bytes:
    return content[:47] + b"\x07" + content[48:]


def without_its_version(content: bytes) -> bytes:
    return content[:60] + bytes(4) + content[64:]


def with_a_negative_version(content: bytes) -> bytes:
    return content[:60] + b"\xff" + content[61:]


def with_a_text_that_is_none(content: bytes) -> bytes:
    return content.replace(b"run-4", b"run\xa94")


def with_a_schema_that_is_no_text(content: bytes) -> bytes:
    return content.replace(b"CREATE TABLE messages (", b"CREATE TABLE m\xa9ssages,(")


@pytest.mark.parametrize(
    "change",
    [
        of_another_writer,
        of_another_format,
        without_its_version,
        with_a_negative_version,
        with_a_text_that_is_none,
        with_a_schema_that_is_no_text,
    ],
    ids=lambda c: c.__name__,
)
async def test_damage_that_sqlite_takes_for_something_else_is_moved_aside_and_told(
    filled: Path, change: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    content = (filled / DATABASE).read_bytes()
    (filled / DATABASE).write_bytes(change(content))
    await is_usable(filled)
    (aside,) = asides(filled)
    assert [str(aside) in record.getMessage() for record in caplog.records] == [True]
    journal = await opened(filled)
    assert journal.aside == aside
    await journal.close()


async def test_a_journal_without_its_counters_is_moved_aside(filled: Path) -> None:
    with closing(sqlite3.connect(filled / DATABASE)) as database:
        database.execute("DELETE FROM counter")
        database.commit()
    await is_usable(filled)
    assert asides(filled)


async def test_a_result_that_is_damaged_is_an_error_of_ours(filled: Path) -> None:
    with closing(sqlite3.connect(filled / DATABASE)) as database:
        database.execute("UPDATE contents SET data = x'ff' WHERE owner = 'run-0' AND name = ''")
        database.commit()
    journal = await opened(filled)
    try:
        with pytest.raises(StorageError, match="damaged"):
            await journal.result("id 0")
        assert await journal.result("id 1")
    finally:
        await journal.close()


async def test_what_cannot_be_used_is_named_with_its_path(filled: Path) -> None:
    with closing(sqlite3.connect(filled / DATABASE, isolation_level=None)) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageError, match=re.escape(str(filled))):
        await opened(filled)
    (filled.parent / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=re.escape(str(filled.parent / "file"))):
        await opened(filled.parent / "file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
async def test_a_pipe_in_place_of_the_database_is_told_and_not_waited_for(filled: Path) -> None:
    (filled / DATABASE).unlink()
    os.mkfifo(filled / DATABASE)
    with pytest.raises(StorageError, match="is a pipe"):
        await asyncio.wait_for(opened(filled), 10)
