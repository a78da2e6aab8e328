from __future__ import annotations

import logging

import pytest

from comfyui_stateless.launcher.lines import LONGEST_BYTES, PROGRESS_S, Levels, Lines


def lines_of(*parts: bytes) -> list[str]:
    lines = Lines()
    return [line for part in parts for line in lines.feed(part)] + list(lines.rest())


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((b"one\ntwo\n",), ["one", "two"]),
        ((b"on", b"e\ntw", b"o"), ["one", "two"]),
        ((b"one\r\ntwo\r", b"\nthree"), ["one", "two", "three"]),
        ((b"one\n\ntwo\n",), ["one", "", "two"]),
        (("é".encode()[:1], "é\n".encode()[1:]), ["é"]),
        ((b"\xff\n",), ["�"]),
        ((), []),
    ],
)
def test_a_stream_is_cut_at_the_ends_of_lines(
    parts: tuple[bytes, ...], expected: list[str]
) -> None:
    assert lines_of(*parts) == expected


def test_a_progress_bar_is_told_now_and_then_and_at_its_end() -> None:
    now = [100.0]
    lines = Lines(clock=lambda: now[0])
    told: list[str] = []
    for percent in range(100):
        told += lines.feed(f"\r{percent}%".encode())
        now[0] += PROGRESS_S / 10
    told += lines.feed(b"\r100%\n")
    assert told[0] == "0%"
    assert told[-1] == "100%"
    assert 10 <= len(told) <= 13


def test_a_line_without_end_is_cut_and_not_held() -> None:
    lines = Lines()
    for _ in range(100):
        assert list(lines.feed(b"x" * LONGEST_BYTES)) == []
    assert len(lines._held) == LONGEST_BYTES
    (line,) = lines.feed(b"\n")
    assert line.endswith(f"x … ({99 * LONGEST_BYTES} bytes left out)")
    assert list(lines.feed(b"next\n")) == ["next"]


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("[INFO] a", logging.INFO),
        ("WARNING: a", logging.WARNING),
        ("[ERROR] a", logging.ERROR),
        ("2026-01-02 03:04:05,678 ERROR a", logging.ERROR),
        ("[2026] Error in a", None),
        ("warning: a", logging.WARNING),
        ("(DEBUG) a", logging.DEBUG),
        ("CRITICAL a", logging.CRITICAL),
        ("!!! Exception during processing !!! a", logging.ERROR),
        ("Information about a", None),
        ("Starting server", None),
        ("", None),
    ],
)
def test_a_level_is_known_where_a_line_names_it(line: str, level: int | None) -> None:
    assert Levels().of(line) == level


def test_a_traceback_is_an_error_up_to_its_exception() -> None:
    levels = Levels()
    text = "Traceback (most recent call last):\n  File\n\n    code\nValueError: INFO\nnext"
    found = [levels.of(line) for line in text.split("\n")]
    assert found == [logging.ERROR] * 5 + [None]
