"""Fuzz one target, guided by coverage: ``python -m tests.fuzz.harnesses NAME -- OPTIONS``.

The options are libFuzzer's, such as ``-max_total_time=60``. Needs atheris.
"""

from __future__ import annotations

import importlib
import logging
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["comfyui_stateless", "tests.fuzz.harnesses"]):
    targets = importlib.import_module("tests.fuzz.harnesses.targets")


def main(arguments: list[str]) -> None:
    """Fuzz until libFuzzer ends the process; a crash leaves its input in the working folder."""
    name, *options = arguments
    target = targets.TARGETS[name]
    logging.disable(logging.CRITICAL)
    corpus = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], str(corpus), *options], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main([argument for argument in sys.argv[1:] if argument != "--"])
