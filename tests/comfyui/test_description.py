"""A real ComfyUI against the API's own description, directly and through the launcher's port.

For minutes, so in `make fuzz` only; the suite has a scripted engine in front of schemathesis.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.comfyui.graphs import saved
from tests.comfyui.server import Install
from tests.comfyui.test_launcher import ON, START_S, LaunchedComfyUI
from tests.comfyui.test_random_graphs import our_tracebacks
from tests.fuzz.describing import require_as_described, require_as_linked

TIMES = int(os.environ.get("STATELESS_TEST_FUZZ", "1"))

pytestmark = [
    pytest.mark.skipif(TIMES == 1, reason="takes minutes: `make fuzz`"),
    pytest.mark.skipif(sys.version_info < (3, 11), reason="schemathesis needs Python 3.11"),
]


@pytest.fixture(scope="module")
def launched(
    install: Install, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LaunchedComfyUI]:
    base = tmp_path_factory.mktemp("described")
    publishing = {"ALLOW_PUBLISH": "true", "WORKFLOW_DIR": str(base / "workflows")}
    with LaunchedComfyUI(install, base, **ON, **publishing) as launched:
        launched.until_ready(START_S)
        yield launched
        assert len(launched.pids) == 1, launched.log[-4000:]
        assert our_tracebacks(launched.log) == []


@pytest.fixture(params=["launcher", "comfyui"])
def url(request: pytest.FixtureRequest, launched: LaunchedComfyUI) -> str:
    if request.param == "launcher":
        return f"http://127.0.0.1:{launched.port}"
    return f"http://127.0.0.1:{launched.behind}/api/stateless"


def test_every_route_answers_as_its_description_says(url: str, tmp_path: Path) -> None:
    phases = ("--phases", "examples,coverage,fuzzing")
    require_as_described(url, tmp_path, *phases, examples=2 * TIMES)


def test_what_answers_say_leads_to_answers_as_described(url: str, tmp_path: Path) -> None:
    require_as_linked(url, tmp_path, saved(1), examples=2 * TIMES)
