from __future__ import annotations

import io
import json
import logging
import os
import threading
from typing import Any

import pytest

from comfyui_stateless.config import LogLevel
from comfyui_stateless.launcher import log as launcher_log
from comfyui_stateless.launcher.log import Writer, logging_to

LOG = logging.getLogger("comfyui_stateless.launcher")


def logged(is_json: bool, level: LogLevel, *lines: str) -> list[str]:
    stream = io.BytesIO()
    with logging_to(stream, is_json=is_json, level=level) as log:
        for line in lines:
            log.relay(line)
        LOG.debug("own debug")
        LOG.info("own info")
        LOG.warning("own %s", "warning")
    return stream.getvalue().decode().splitlines()


def entries(*lines: str, level: LogLevel = "info") -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged(True, level, *lines)]


def test_text_has_comfyuis_lines_as_they_are() -> None:
    assert logged(False, "info", "Starting server", "  é") == [
        "Starting server", "  é", "[launcher] own info", "[launcher] WARNING: own warning",
    ]  # fmt: skip


def test_json_has_time_level_source_and_message() -> None:
    first, second, third = entries("WARNING: é")
    assert {**first, "time": ""} == {
        "time": "", "level": "warn", "source": "comfyui", "message": "WARNING: é",
    }  # fmt: skip
    assert (second["source"], second["level"], second["message"]) == (
        "launcher",
        "info",
        "own info",
    )
    assert third["level"] == "warn"


@pytest.mark.parametrize(
    ("level", "count"), [("debug", 6), ("info", 5), ("warn", 3), ("error", 2), ("fatal", 1)]
)
def test_what_is_below_the_level_is_left_out(level: LogLevel, count: int) -> None:
    lines = logged(False, level, "INFO: a", "ERROR: b", "no level")
    assert len(lines) == count
    assert "no level" in lines


def test_a_traceback_of_ours_is_one_entry() -> None:
    stream = io.BytesIO()
    with logging_to(stream, is_json=True, level="info"):
        try:
            raise ValueError("odd")
        except ValueError:
            LOG.exception("Failed")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["message"].endswith("ValueError: odd")


def test_a_reader_that_stops_costs_lines_not_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher_log, "HELD_BYTES", 100_000)
    reading, writing = os.pipe()
    got: list[bytes] = []
    with os.fdopen(writing, "wb") as stream, os.fdopen(reading, "rb") as reader:
        writer = Writer(stream, lambda count: f"{count} left out")
        for number in range(20_000):
            writer.put(f"{number:0100}")
        reading_on = threading.Thread(target=lambda: got.append(reader.read()))
        reading_on.start()
        writer.close()
        stream.close()
        reading_on.join()
    lines = got[0].splitlines()
    left_out = [int(line.split()[0]) for line in lines if line.endswith(b"left out")]
    assert left_out
    assert len(lines) - len(left_out) + sum(left_out) == 20_000


def test_a_reader_that_is_gone_harms_nobody() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as stream:
        writer = Writer(stream, str)
        writer.put("one")
        writer.put("two")
        writer.close()
