"""The threat model names tests; they are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(test_\w+)`", PAGE)))
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("name", NAMED)
def test_what_the_threat_model_names_is_tested(name: str) -> None:
    assert re.search(rf"^\s*(async )?def {name}\(", TESTS, re.MULTILINE)


def test_every_line_of_the_threats_names_a_test() -> None:
    table = PAGE.partition("## What is safe as it comes")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(lines) > 10
    assert all("`test_" in line for line in lines)
