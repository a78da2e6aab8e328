"""Bars on a terminal, lines in a log."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import re
import struct
import termios
from contextlib import suppress

import pytest

from comfyui_stateless.manifest import BarReport, LogReport, open_report
from comfyui_stateless.manifest.progress import amount, size


def use(report: BarReport | LogReport) -> None:
    with report:
        report.step("models", 2)
        report.begun("model a")
        report.begun("model a")
        report.moved("model a", 0, None)
        report.moved("model a", 512 * 1024, 1024 * 1024)
        report.line("model a", "a line of a program")
        logging.getLogger("comfyui_stateless.manifest").warning("something else")
        report.warn("all is not well")
        report.ended("model a", "downloaded")
        report.begun("model b")
        report.step("another step", 1)


def test_without_a_terminal_there_are_lines_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    report = open_report(io.StringIO())
    assert isinstance(report, LogReport)
    with caplog.at_level(logging.INFO):
        use(report)
    assert caplog.messages == [
        "models: 2 in the manifest",
        "model a: begun",
        "model a: a line of a program",
        "something else",
        "all is not well",
        "model a: downloaded",
        "model b: begun",
        "another step: 1 in the manifest",
    ]


def test_a_long_download_tells_every_so_often(caplog: pytest.LogCaptureFixture) -> None:
    report = LogReport(interval_s=0)
    with caplog.at_level(logging.INFO):
        report.moved("model a", 512 * 1024, 1024 * 1024)
    assert caplog.messages == ["model a: 512.0 KiB of 1.0 MiB (50 %)"]


def test_on_a_terminal_there_are_bars_with_lines_above_them() -> None:
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with open(theirs, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
        report = open_report(stream)
        assert isinstance(report, BarReport)
        use(report)
    written = _written(ours)
    assert re.search(r"models:\s+50%", written)
    assert re.search(r"\rmodel a: +0", written)
    for line in ("model a: a line of a program", "Warning: all is not well", "model a: downloaded"):
        assert f"{line}\r\n" in written


def _written(terminal: int) -> str:
    """Return all that was written to a terminal that is closed by now."""
    written = b""
    with suppress(OSError):
        while chunk := os.read(terminal, 100_000):
            written += chunk
    os.close(terminal)
    return written.decode()


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (7 * 1024**3, "7.0 GiB"),
     (3 * 1024**4, "3.0 TiB")],
)  # fmt: skip
def test_sizes_are_for_people(count: int, expected: str) -> None:
    assert size(count) == expected


def test_an_amount_of_unknown_size_is_what_is_there() -> None:
    assert amount(1024, None) == "1.0 KiB"
