"""Fuzz every target for some seconds: ``python -m tests.fuzz.harnesses.every SECONDS``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.harnesses.targets import TARGETS


def main(seconds: int) -> int:
    """Return how many targets broke; what broke them lies in a folder that is named."""
    if find_spec("atheris") is None:
        sys.stderr.write("atheris is not there (pip install atheris): libFuzzer is left out.\n")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    limits = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048", "-max_len=8192"]
    broken = 0
    for name in TARGETS:
        options = [*limits, f"-artifact_prefix={folder}/{name}-"]
        command = [sys.executable, "-m", "tests.fuzz.harnesses", name, "--", *options]
        broken += subprocess.run(command, check=False).returncode != 0
    sys.stderr.write(f"{broken} of {len(TARGETS)} targets broke; inputs are in {folder}.\n")
    return broken


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
