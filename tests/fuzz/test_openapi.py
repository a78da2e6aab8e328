"""The routes against their own description: what schemathesis sends is answered as it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.conftest import TIMES
from tests.fuzz.serving import served

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_headers_conformance", "response_schema_conformance", "allow_header_conformance",
)  # fmt: skip
COMMAND = "from schemathesis.cli import schemathesis; schemathesis()"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="schemathesis needs Python 3.11")
def test_every_route_answers_as_its_description_says(tmp_path: Path) -> None:
    with served(tmp_path / "served") as site:
        options = ["--checks", ",".join(CHECKS), "--phases", "examples,fuzzing", "--seed", "1"]
        options += ["--max-examples", str(4 * TIMES), "--exclude-path", "/events"]  # has no end
        command = [sys.executable, "-c", COMMAND, "run", f"{site.url}/openapi.json", *options]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    assert not site.errors
