"""The routes against their own description: what schemathesis sends is answered as it says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.fakes import graph
from tests.fuzz.conftest import TIMES
from tests.fuzz.describing import require_as_described, require_as_linked
from tests.fuzz.serving import served

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="schemathesis needs Python 3.11")
SEED = ("--seed", "1") if TIMES == 1 else ()
PHASES = "examples,fuzzing" if TIMES == 1 else "examples,coverage,fuzzing"


def test_every_route_answers_as_its_description_says(tmp_path: Path) -> None:
    with served(tmp_path / "served") as site:
        options = ("--phases", PHASES, *SEED)
        require_as_described(site.url, tmp_path, *options, examples=4 * TIMES)
    assert not site.errors


def test_what_answers_say_leads_to_answers_as_described(tmp_path: Path) -> None:
    folder = tmp_path / "workflows"
    with served(tmp_path / "served", workflow_dir=folder, allow_publish=True) as site:
        require_as_linked(site.url, tmp_path, graph(), examples=3 * TIMES)
    assert not site.errors
