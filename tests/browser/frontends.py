"""The frontends that the tab has to work in.

A module of its own: pytest loads conftest.py a second time under another name, takes the frontends of the
two for different ones, and would start a server for each.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from docker.browser import FRONTEND
from tests.comfyui.server import CHECKOUT

NEWER = CHECKOUT / ".comfyui" / "frontends" / FRONTEND / "static"

# What a person has clicked away long ago, and what would ask other servers.
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.InstalledVersion": "1.32.9",
    "Comfy.Minimap.Visible": False,
    "Comfy.Notification.ShowVersionUpdates": False,
}


@dataclass(frozen=True)
class Frontend:
    """A frontend, and the API key of the server that has it."""

    name: str
    arguments: tuple[str, ...] = ()
    key: str = ""


FRONTENDS = [
    Frontend("own"),
    Frontend("newer", ("--front-end-root", str(NEWER)), key="one-of-the-keys"),
]


only_own = pytest.mark.parametrize("frontend", FRONTENDS[:1], ids=["own"], indirect=True)
"""For what does not depend on the frontend."""


only_newer = pytest.mark.parametrize("frontend", FRONTENDS[1:], ids=["newer"], indirect=True)
