"""Secrets of our runs that nodes write into ComfyUI's log, taken out of it.

ComfyUI logs what a node raises, and clients of services like to name the key that was refused.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from .failures import without
from .runs import Runs

_PLAIN = logging.Formatter()


class Discretion(logging.Filter):
    """Puts stars in place of the secrets of live runs, in whatever is logged."""

    def __init__(self, runs: Runs) -> None:
        super().__init__()
        self._runs = runs

    def install(self) -> None:
        """See to all that goes to the handlers that there are now, which are ComfyUI's."""
        for handler in logging.getLogger().handlers:
            handler.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        secrets = self._runs.secrets()
        if secrets:
            # A record that cannot be formatted is reported by the handler.
            with suppress(Exception):
                _clean(record, secrets)
        return True


def _clean(record: logging.LogRecord, secrets: tuple[str, ...]) -> None:
    message = record.getMessage()
    if (clean := without(message, secrets)) != message:
        record.msg, record.args = clean, None
    if record.exc_info and not record.exc_text:
        record.exc_text = _PLAIN.formatException(record.exc_info)
    if record.exc_text:
        record.exc_text = without(record.exc_text, secrets)
