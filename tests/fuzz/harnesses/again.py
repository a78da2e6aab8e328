"""Run a target on files once more, without a fuzzer: ``again NAME FILE…``."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.fuzz.harnesses.targets import TARGETS


def main(name: str, *files: str) -> None:
    """Run the target on each file; what breaks it is raised."""
    for file in files:
        TARGETS[name].run(Path(file).read_bytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
