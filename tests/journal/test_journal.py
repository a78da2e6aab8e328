from __future__ import annotations

import asyncio
import errno
import json
import os
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.errors import JournalBusy, NoSpace, StorageError
from comfyui_stateless.journal import Content, DueMessage, IdempotencyKey, Message, NewJob, Source
from comfyui_stateless.journal.files import INLINE_BYTES
from comfyui_stateless.journal.journal import Journal, Limits
from comfyui_stateless.journal.schema import MIGRATIONS

LARGE = b"large " * INLINE_BYTES
URL = "https://receiver.example/hook?token=geheim"


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


Open = Callable[..., Coroutine[Any, Any, Journal]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def open_journal(tmp_path: Path, clock: Clock) -> AsyncIterator[Open]:
    """Give what opens a journal; all are closed at the end."""
    journals = []

    async def opened(folder: Path = tmp_path / "state", **limits: Any) -> Journal:
        journals.append(await Journal.open(folder, Limits(**limits), clock))
        return journals[-1]

    yield opened
    for journal in journals:
        await journal.close()


@pytest.fixture
async def journal(open_journal: Open) -> Journal:
    return await open_journal()


def job(run_id: str = "run", **fields: Any) -> NewJob:
    return NewJob(run_id, fields.pop("id", "mine"), fields.pop("request", b"{}"), **fields)


def due(message_id: str = "msg_1", body: Source = b"{}") -> DueMessage:
    return DueMessage(message_id, URL, body)


async def with_message(journal: Journal, body: Source = b"{}") -> Message:
    await journal.accept(job())
    (message,) = await journal.finish("run", {}, [due(body=body)])
    return message


async def files(journal: Journal) -> list[str]:
    """Return the names of the files, after the clean-up behind all that was committed."""
    await journal.sweep()
    await journal.sweep()
    return sorted(path.name for path in (journal.folder / "files").iterdir())


def read(content: Content | None) -> bytes:
    assert content is not None
    return content.read()


async def reopened(journal: Journal, open_journal: Open, **limits: Any) -> Journal:
    await journal.close()
    return await open_journal(journal.folder, **limits)


@pytest.mark.parametrize("request_body", [b'{"prompt": {}}', LARGE], ids=["small", "large"])
async def test_an_accepted_job_is_there_after_a_restart(
    journal: Journal, open_journal: Open, tmp_path: Path, request_body: bytes
) -> None:
    (tmp_path / "input.png").write_bytes(LARGE * 2)
    sources: dict[str, Source] = {"a": tmp_path / "input.png", "b": b"b", "c": iter([b"1", b"2"])}
    await journal.accept(job(request=request_body, needs_secrets=True, files=sources))
    (tmp_path / "input.png").unlink()

    again = await reopened(journal, open_journal)
    (found,) = await again.unfinished()
    contents = await again.job_contents("run")

    assert (found.run_id, found.id, found.needs_secrets, found.attempts) == ("run", "mine", True, 0)
    assert contents.request.read() == request_body
    assert {name: c.read() for name, c in contents.files.items()} == {
        "a": LARGE * 2,
        "b": b"b",
        "c": b"12",
    }


async def test_attempts_are_counted_over_restarts(journal: Journal, open_journal: Open) -> None:
    await journal.accept(job())
    assert await journal.begin_attempt("run") == 1
    again = await reopened(journal, open_journal)
    assert await again.begin_attempt("run") == 2


async def test_what_is_not_unfinished_cannot_be_begun_or_finished(journal: Journal) -> None:
    await journal.accept(job())
    await journal.finish("run", {})
    with pytest.raises(LookupError):
        await journal.begin_attempt("run")
    with pytest.raises(LookupError):
        await journal.finish("run", {}, [due()])
    with pytest.raises(LookupError):
        await journal.job_contents("run")
    assert await journal.due_messages() == []


@pytest.mark.parametrize("body", [b"{}", LARGE], ids=["small", "large"])
async def test_a_finished_job_leaves_its_messages_and_its_result(
    journal: Journal, open_journal: Open, body: bytes
) -> None:
    await journal.accept(job(files={"input": LARGE + b"."}))
    outputs: dict[str, Source] = {"z.png": LARGE + b"z", "a.png": b"a"}
    await journal.finish("run", {"état": "done"}, [due("msg_2", body), due()], outputs)

    again = await reopened(journal, open_journal)
    messages = await again.due_messages()
    result = await again.result("mine")

    assert await again.unfinished() == []
    assert [(m.message_id, m.run_id, m.url, m.wait_s) for m in messages] == [
        ("msg_2", "run", URL, 0),
        ("msg_1", "run", URL, 0),
    ]
    assert (await again.body("msg_2")).read() == body
    assert result is not None
    assert result.meta == {"état": "done"}
    assert [(name, read(c)) for name, c in result.files.items()] == [
        ("z.png", LARGE + b"z"),
        ("a.png", b"a"),
    ]


async def test_a_delivered_message_is_gone_with_its_body(journal: Journal) -> None:
    message = await with_message(journal, LARGE)
    await journal.delivered(message.message_id)
    await journal.stats()
    assert await journal.due_messages() == []
    assert await files(journal) == []


async def test_equal_contents_are_one_file_until_the_last_is_gone(journal: Journal) -> None:
    for name in ("one", "two"):
        await journal.accept(job(name))
        await journal.finish(name, {}, [due(f"msg_{name}", LARGE)])
    assert len(await files(journal)) == 1
    await journal.delivered("msg_one")
    assert (await journal.body("msg_two")).read() == LARGE
    await journal.delivered("msg_two")
    await journal.sweep()
    assert await files(journal) == []


async def test_a_failed_attempt_is_due_later_and_counted(
    journal: Journal, open_journal: Open, clock: Clock
) -> None:
    message = await with_message(journal)
    await journal.record_attempt(message.message_id, 60, "the receiver answered 500")
    clock.now += 20
    again = await reopened(journal, open_journal)
    (found,) = await again.due_messages()
    assert (found.attempts, found.wait_s) == (1, 40)


@pytest.mark.parametrize("jump_s", [-86_400, 86_400])
async def test_a_clock_that_jumps_makes_a_message_due_at_once(
    journal: Journal, clock: Clock, jump_s: float
) -> None:
    message = await with_message(journal)
    await journal.record_attempt(message.message_id, 60, "down")
    clock.now += jump_s
    (found,) = await journal.due_messages()
    assert found.wait_s == 0


async def test_a_message_given_up_is_listed_without_its_body_and_then_forgotten(
    journal: Journal, clock: Clock
) -> None:
    message = await with_message(journal, LARGE)
    await journal.give_up(message.message_id, "the receiver answered 404")
    (listed,) = await journal.given_up()
    assert (listed.message_id, listed.attempts, listed.error) == (
        "msg_1",
        1,
        "the receiver answered 404",
    )
    assert await journal.due_messages() == []
    assert (await journal.stats()).given_up == 1
    clock.now += 601
    await journal.sweep()
    assert await journal.given_up() == []
    assert await files(journal) == []


async def test_a_result_lives_as_long_as_its_ttl(journal: Journal, clock: Clock) -> None:
    await journal.store_result("run", "mine", {"a": 1}, {"a.png": LARGE})
    clock.now += 599
    await journal.sweep()
    assert await journal.result("mine") is not None
    assert await journal.result_of_run("run") is not None
    clock.now += 2
    assert await journal.result("mine") is None
    assert await journal.result_of_run("run") is None
    await journal.sweep()
    assert await files(journal) == []
    assert (await journal.stats()).result_bytes == 0


async def test_a_clock_that_goes_back_does_not_keep_results_for_ever(
    journal: Journal, clock: Clock
) -> None:
    await journal.store_result("run", "mine", {})
    clock.now -= 10_000_000
    await journal.sweep()
    assert await journal.result("mine") is not None
    clock.now += 601
    await journal.sweep()
    assert await journal.result("mine") is None


async def test_the_result_of_an_id_is_that_of_its_newest_job(journal: Journal) -> None:
    await journal.accept(job("first"))
    await journal.accept(job("second"))
    await journal.finish("second", {"run": 2})
    await journal.finish("first", {"run": 1})
    result = await journal.result("mine")
    assert result is not None
    assert result.run_id == "second"
    await journal.store_result("third", "mine", {})
    newest = await journal.result("mine")
    assert newest is not None
    assert newest.run_id == "third"


async def test_without_a_ttl_no_result_is_kept(open_journal: Open) -> None:
    journal = await open_journal(result_ttl_s=0)
    await journal.accept(job(key=IdempotencyKey("k", "d")))
    await journal.finish("run", {}, [due(body=LARGE)], {"a.png": LARGE + b"a"})
    await journal.store_result("other", "mine", {}, {"b.png": LARGE})
    assert await journal.result("mine") is None
    assert await journal.key("k") is None
    assert (await journal.body("msg_1")).read() == LARGE
    assert len(await files(journal)) == 1


async def test_outputs_beyond_the_bound_of_results_are_known_by_name_only(
    open_journal: Open,
) -> None:
    journal = await open_journal(result_max_bytes=len(LARGE) + 10_000)
    outputs: dict[str, Source] = {"a": LARGE, "b": LARGE + b"b", "c": iter([LARGE + b"c"])}
    await journal.store_result("run", "mine", {"a": 1}, outputs)
    result = await journal.result("mine")
    assert result is not None
    assert {name: c and c.read() for name, c in result.files.items()} == {
        "a": LARGE,
        "b": None,
        "c": None,
    }
    assert len(await files(journal)) == 1


async def test_a_key_belongs_to_its_run_until_the_result_is_gone(
    journal: Journal, open_journal: Open, clock: Clock
) -> None:
    await journal.accept(job(key=IdempotencyKey("key", "digest")))
    again = await reopened(journal, open_journal)
    owner = await again.key("key")
    assert owner is not None
    assert (owner.run_id, owner.digest) == ("run", "digest")
    await again.finish("run", {})
    assert await again.key("key") == owner
    assert await again.key("other") is None
    clock.now += 601
    assert await again.key("key") is None


async def test_a_full_journal_accepts_no_job_and_drops_none(open_journal: Open) -> None:
    journal = await open_journal(max_bytes=2 * len(LARGE))
    await journal.accept(job("one", request=LARGE))
    with pytest.raises(NoSpace):
        await journal.accept(job("two", request=LARGE + b"2"))
    assert [j.run_id for j in await journal.unfinished()] == ["one"]

    await journal.finish("one", {}, [due(body=LARGE * 3)])
    assert (await journal.body("msg_1")).read() == LARGE * 3
    with pytest.raises(NoSpace):
        await journal.accept(job("three"))
    await journal.delivered("msg_1")
    await journal.accept(job("three"))
    assert await files(journal) == []


async def test_the_numbers_say_what_is_due(journal: Journal, clock: Clock) -> None:
    await journal.accept(job("unfinished"))
    await with_message(journal)
    clock.now += 90
    stats = await journal.stats()
    assert (stats.unfinished, stats.due, stats.oldest_due_s, stats.given_up) == (1, 1, 90, 0)
    assert stats.bytes > 0


async def test_only_the_owner_can_read_it(journal: Journal) -> None:
    await with_message(journal, LARGE)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in [journal.folder, *journal.folder.rglob("*")]
    }
    folders = {journal.folder.name, "files"}
    assert len(modes) >= 6
    assert {name: mode for name, mode in modes.items() if mode != 0o600} == dict.fromkeys(
        folders, 0o700
    )


async def test_no_url_and_no_body_appears_in_a_repr(journal: Journal) -> None:
    message = await with_message(journal, b"geheim")
    await journal.give_up(message.message_id, "gone")
    values = [message, due(body=b"geheim"), *await journal.given_up()]
    assert "geheim" not in repr(values)


async def test_the_database_is_safe_and_shrinks(journal: Journal) -> None:
    for number in range(200):
        await journal.store_result(f"{number}", "mine", {"text": "x" * 15_000})
    database = journal.folder / "journal.sqlite3"
    connection = sqlite3.connect(database)
    try:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    finally:
        connection.close()
    assert journal._database.write_side.execute("PRAGMA synchronous").fetchone() == (2,)


async def test_space_of_what_is_deleted_is_given_back(
    open_journal: Open, clock: Clock, tmp_path: Path
) -> None:
    journal = await open_journal()
    await asyncio.gather(
        *(journal.store_result(f"{n}", "mine", {"text": "x" * 15_000}) for n in range(600))
    )
    clock.now += 601
    await journal.sweep()
    await journal.close()
    assert (tmp_path / "state" / "journal.sqlite3").stat().st_size < 6_000_000


async def test_a_second_process_takes_a_subfolder(journal: Journal, open_journal: Open) -> None:
    second = await open_journal(journal.folder)
    third = await open_journal(journal.folder)
    assert [j.folder.relative_to(journal.folder).as_posix() for j in (second, third)] == ["2", "3"]
    await second.close()
    assert (await open_journal(journal.folder)).folder == second.folder


async def test_what_dead_processes_left_is_taken_over_by_the_next(
    journal: Journal, open_journal: Open
) -> None:
    second = await open_journal(journal.folder)
    await journal.accept(job("one", request=LARGE))
    await second.accept(job("two", files={"a": LARGE, "b": LARGE + b"b"}))
    await second.accept(job("three"))
    await second.finish("three", {"n": 3}, [due(body=LARGE + b"c")], {"x": b"x"})
    await second.close()

    again = await reopened(journal, open_journal)
    assert again.folder == journal.folder
    assert [j.run_id for j in await again.unfinished()] == ["one", "two"]
    assert (await again.job_contents("two")).files["b"].read() == LARGE + b"b"
    assert (await again.body("msg_1")).read() == LARGE + b"c"
    result = await again.result("mine")
    assert result is not None
    assert (result.meta, read(result.files["x"])) == ({"n": 3}, b"x")
    assert [path.name for path in second.folder.iterdir()] == ["lock"]

    await again.finish("two", {})
    last = await reopened(again, open_journal)
    assert [j.run_id for j in await last.unfinished()] == ["one"]


async def test_a_forked_child_does_not_keep_the_folder(
    journal: Journal, open_journal: Open
) -> None:
    held, release = os.pipe()
    forked, begun = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(release)
        os.write(begun, b".")
        os.read(held, 1)
        os._exit(0)
    try:
        os.close(held)
        os.read(forked, 1)
        again = await reopened(journal, open_journal)
        assert again.folder == journal.folder
    finally:
        for end in (release, forked, begun):
            os.close(end)
        await asyncio.to_thread(os.waitpid, child, 0)


@pytest.mark.parametrize("damage", [b"", b"not a database at all" * 500], ids=["middle", "whole"])
async def test_a_damaged_database_is_moved_aside(
    journal: Journal, open_journal: Open, caplog: pytest.LogCaptureFixture, damage: bytes
) -> None:
    for number in range(50):
        await journal.accept(job(str(number), request=b"x" * 10_000))
    await journal.accept(job("large", request=LARGE))
    await journal.close()
    database = journal.folder / "journal.sqlite3"
    whole = database.read_bytes()
    database.write_bytes(damage or whole[:4096] + b"\xff" * 8192 + whole[12288:])

    again = await open_journal(journal.folder)
    await again.accept(job())

    (aside,) = again.folder.glob("damaged-*")
    assert {path.name for path in aside.iterdir()} >= {"journal.sqlite3", "files"}
    assert [j.run_id for j in await again.unfinished()] == ["run"]
    assert await files(again) == []
    assert [r.levelname for r in caplog.records] == ["ERROR"]


async def test_only_the_last_damaged_database_is_kept(journal: Journal, open_journal: Open) -> None:
    for _ in range(2):
        await journal.close()
        (journal.folder / "journal.sqlite3").write_bytes(b"damage" * 1000)
        journal = await open_journal(journal.folder)
    assert len(list(journal.folder.glob("damaged-*"))) == 1


async def test_a_newer_version_s_database_is_left_alone(
    journal: Journal, open_journal: Open
) -> None:
    await journal.accept(job())
    await journal.close()
    connection = sqlite3.connect(journal.folder / "journal.sqlite3")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StorageError, match="newer version"):
        await open_journal(journal.folder)
    assert list(journal.folder.glob("damaged-*")) == []


async def test_a_folder_that_cannot_be_made_is_an_error_of_ours(
    open_journal: Open, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="STATE_DIR"):
        await open_journal(tmp_path / "file" / "state")


async def test_a_locked_database_is_an_error_and_passes(journal: Journal, tmp_path: Path) -> None:
    journal._database.write_side.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(journal.folder / "journal.sqlite3", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalBusy, match="locked") as caught:
            await journal.accept(job(request=LARGE))
        assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "5"})
        other.execute("COMMIT")
    finally:
        other.close()
    await journal.accept(job("two"))
    assert [j.run_id for j in await journal.unfinished()] == ["two"]
    assert await files(journal) == []


@pytest.mark.parametrize("what", ["deleted", "moved", "replaced"])
async def test_a_journal_that_would_not_be_found_again_accepts_no_job(
    journal: Journal, what: str
) -> None:
    await journal.accept(job("before"))
    database = journal.folder / "journal.sqlite3"
    if what == "deleted":
        database.unlink()
    elif what == "moved":
        journal.folder.rename(journal.folder.with_name("elsewhere"))
    else:
        older = database.with_name("older")
        older.write_bytes(database.read_bytes())
        older.replace(database)
    with pytest.raises(StorageError, match="deleted, moved or replaced"):
        await journal.accept(job("after"))
    assert [j.run_id for j in await journal.unfinished()] == ["before"]
    assert await journal.finish("before", {}) == []


async def test_a_full_disk_is_an_error_and_loses_nothing(journal: Journal) -> None:
    await journal.accept(job("one"))
    pages = journal._database.write_side.execute("PRAGMA page_count").fetchone()[0]
    journal._database.write_side.execute(f"PRAGMA max_page_count = {pages + 1}")
    more = (journal.accept(job(f"{n}", request=b"x" * INLINE_BYTES)) for n in range(50))
    with pytest.raises(NoSpace):
        await asyncio.gather(*more)
    journal._database.write_side.execute("PRAGMA max_page_count = 1000000")
    await journal.accept(job("last"))
    runs = [j.run_id for j in await journal.unfinished()]
    assert (runs[0], runs[-1]) == ("one", "last")


async def test_a_source_that_fails_leaves_nothing(journal: Journal) -> None:
    def full() -> Any:
        yield LARGE
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(NoSpace):
        await journal.accept(job(files={"whole": LARGE, "cut": full()}))
    await journal.accept(job("next"))
    assert [j.run_id for j in await journal.unfinished()] == ["next"]
    assert await files(journal) == []


async def test_one_that_fails_does_not_take_others_with_it(journal: Journal) -> None:
    await journal.accept(job("twice"))
    outcomes = await asyncio.gather(
        *(journal.accept(job(f"{n}")) for n in range(20)),
        journal.accept(job("twice")),
        *(journal.accept(job(f"{n}")) for n in range(20, 40)),
        return_exceptions=True,
    )
    assert [type(o) for o in outcomes if o] == [StorageError]
    assert len(await journal.unfinished()) == 41


async def test_one_who_stops_waiting_harms_nobody(journal: Journal) -> None:
    tasks = [asyncio.create_task(journal.accept(job(f"{n}"))) for n in range(40)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    found = {j.run_id for j in await journal.unfinished()}
    assert found >= {f"{n}" for n in range(1, 40, 2)}


async def test_a_closed_journal_says_so(journal: Journal) -> None:
    await journal.close()
    with pytest.raises(StorageError, match="closed"):
        await journal.begin_attempt("run")


async def test_meta_is_plain_json_on_disk_and_holds_what_was_given(journal: Journal) -> None:
    meta = {"id": "ü", "images": ["x" * 20_000]}
    await journal.store_result("run", "mine", meta)
    (name,) = await files(journal)
    assert json.loads((journal.folder / "files" / name).read_bytes()) == meta
