"""Secrets of our runs that nodes write into ComfyUI's log, taken out of it.

ComfyUI logs what a node raises, and clients of services like to name the key that was refused.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from .failures import without
from .runs import Runs

_PLAIN = logging.Formatter()


class Discretion:
    """Puts stars in place of the secrets of live runs, in whatever is logged."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def install(self) -> None:
        """See to all records, where they are made: packs put in handlers of their own."""
        original = logging.getLogRecordFactory()

        def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
            record = original(*args, **kwargs)
            if secrets := self._runs.secrets():
                # A record that cannot be formatted is reported by the handler.
                with suppress(Exception):
                    _clean(record, secrets)
            return record

        logging.setLogRecordFactory(factory)


def _clean(record: logging.LogRecord, secrets: tuple[str, ...]) -> None:
    message = record.getMessage()
    if (clean := without(message, secrets)) != message:
        record.msg, record.args = clean, None
    if record.exc_info and not record.exc_text:
        record.exc_text = _PLAIN.formatException(record.exc_info)
    if record.exc_text:
        record.exc_text = without(record.exc_text, secrets)
