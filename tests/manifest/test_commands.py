"""Programs that run for entries: their output, and their end."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from comfyui_stateless.manifest import commands
from comfyui_stateless.manifest.commands import NOT_STARTED, Command, run
from tests.cache.watching import until
from tests.manifest.installing import Told
from tests.manifest.watching import lives


def shell(script: str, stdin: str | None = None) -> Command:
    return Command(["/bin/sh", "-c", script], stdin=stdin)


async def test_lines_come_as_they_are_written_and_both_streams_count() -> None:
    told = Told()
    output = await run(shell("echo one; echo two >&2; printf three; exit 3"), "it", told)
    assert (output.code, output.lines) == (3, ("one", "two", "three"))
    assert told.lines == ["one", "two", "three"]
    assert output.ending == "ended with 3. Its last lines:\n  one\n  two\n  three"


async def test_what_a_bar_overwrites_and_colours_are_left_out() -> None:
    output = await run(shell(r"printf '10%%\r20%%\rdone\r\n\033[31mred\033[0m\n\n \n'"))
    assert output.lines == ("done", "red")


async def test_bytes_that_are_no_text_do_no_harm() -> None:
    assert (await run(shell(r"printf 'a\377b\n'"))).lines == ("a\ufffdb",)


async def test_a_url_is_told_without_its_secrets() -> None:
    told = Told()
    output = await run(shell("echo get https://u:hush@h/a?hush now; exit 1"), "it", told)
    assert told.lines == ["get https://h/a?… now"]
    assert "hush" not in output.ending + repr(output)


async def test_stdin_is_what_was_given_or_empty() -> None:
    assert (await run(shell("cat", "a\nb\n"))).lines == ("a", "b")
    assert (await run(shell("cat"))).lines == ()


async def test_a_program_that_reads_nothing_of_much_ends() -> None:
    assert (await run(shell("exit 4", "x" * 1_000_000))).code == 4


async def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    output = await run(Command([str(tmp_path / "none")]))
    assert output.code == NOT_STARTED
    assert output.ending == "cannot be started: No such file or directory"


async def test_a_signal_is_told() -> None:
    assert (await run(shell("kill -9 $$"))).ending == "was ended by signal 9, without a word"


async def test_what_a_program_leaves_in_the_background_is_ended_with_it(tmp_path: Path) -> None:
    output = await asyncio.wait_for(run(shell("sleep 60 & echo $!")), 20)
    assert output.code == 0
    await until(lambda: not lives(int(output.lines[0])))


async def test_a_program_that_ignores_the_wish_to_end_is_ended_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "GRACE_S", 0.1)
    child = tmp_path / "child"
    running = asyncio.ensure_future(
        run(shell(f"trap '' TERM; echo $$ > {child}; while true; do sleep 0.05; done"))
    )
    await until(lambda: child.is_file() and child.read_text())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: not lives(int(child.read_text())))


async def test_a_program_that_is_cancelled_while_it_starts_is_ended(tmp_path: Path) -> None:
    child = tmp_path / "child"
    script = f"sleep 60 & echo $! > {child}; wait"
    for turns in range(12):
        child.unlink(missing_ok=True)
        running = asyncio.ensure_future(run(shell(script)))
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        started = child.read_text().strip() if child.is_file() else ""
        if started:
            await until(partial(_has_ended, int(started)))


def _has_ended(process: int) -> bool:
    return not lives(process)
