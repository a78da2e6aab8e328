"""Fixtures that tests of several folders use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from comfyui_stateless.config import Settings
from tests.cache.origin import Origin, serving


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the variables of the settings away, whatever the shell has set."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def origin() -> Iterator[Origin]:
    """A server of files that may be fetched."""
    with serving() as running:
        yield running
