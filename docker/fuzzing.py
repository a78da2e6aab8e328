"""The coverage-guided fuzzer of `make fuzz`: not every Python has one."""

from __future__ import annotations

from docker.environments import Environment, key_of
from docker.steps import Console, SetupError

# As a wheel only: what it builds from needs a clang of its own.
REQUIREMENT = "atheris>=2.3,<4"


def ensure(base: Environment, console: Console) -> None:
    """Put atheris into the environment where it is to be had; elsewhere only say so."""

    def install() -> None:
        with console.step("atheris"):
            base.pip_install(console, ["--only-binary", "atheris", REQUIREMENT])

    try:
        base.ensure("fuzzer", key_of([REQUIREMENT]), install)
    except SetupError:
        console.note(f"atheris cannot be had for this Python: hypothesis alone. Why: {console.log}")
