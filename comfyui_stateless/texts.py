"""Texts that are told: as long as is needed, and no longer."""

from __future__ import annotations

MAX_MESSAGE = 10_000
"""Characters of a message. What it names may be as large as a body, and each is logged."""


def cut_short(text: str, most: int = MAX_MESSAGE) -> str:
    """Return a text with its middle left out where it has more than ``most`` characters."""
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-(most // 2) :]}"
