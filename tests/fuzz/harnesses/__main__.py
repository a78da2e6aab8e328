"""Fuzz one target, guided by coverage: ``python -m tests.fuzz.harnesses NAME -- OPTIONS``.

The options are libFuzzer's, such as ``-max_total_time=60``. Needs atheris.
"""

from __future__ import annotations

import importlib
import logging
import sys

import atheris

from tests.fuzz.harnesses.folder import FOLDER

with atheris.instrument_imports(include=["comfyui_stateless", "tests.fuzz.harnesses"]):
    targets = importlib.import_module("tests.fuzz.harnesses.targets")


def main(arguments: list[str]) -> None:
    """Fuzz until libFuzzer ends the process; inputs that reach new code stay in the corpus."""
    name, *options = arguments
    target = targets.TARGETS[name]
    logging.disable(logging.CRITICAL)
    corpus = FOLDER / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], str(corpus), *options], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main([argument for argument in sys.argv[1:] if argument != "--"])
