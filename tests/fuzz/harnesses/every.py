"""Fuzz every target for some seconds: ``python -m tests.fuzz.harnesses.every SECONDS``.

What is found new is kept in `.comfyui/fuzz/`, for the next time to begin with; so is what broke, which
is tried again first.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.harnesses.folder import FOLDER
from tests.fuzz.harnesses.targets import TARGETS

AGAIN = "tests.fuzz.harnesses.again"

SLACK_S = 300
"""For a start, which takes two minutes beside much else, for what has been kept, and for the last
input."""


def main(seconds: int) -> int:
    """Return how many targets broke; each input that broke one is named, with how to repeat it."""
    if find_spec("atheris") is None:
        sys.stderr.write("atheris is not there: libFuzzer is left out.\n")
        return 0
    crashes = FOLDER / "crashes"
    crashes.mkdir(parents=True, exist_ok=True)
    known = set(crashes.iterdir())
    still = {crash for crash in known if not _is_mended(crash)}
    broken = {_target(crash) for crash in still}
    broken |= {name for name in TARGETS if not _holds(name, seconds, crashes)}
    sys.stderr.write(f"{len(broken)} of {len(TARGETS)} targets broke: {sorted(broken)}\n")
    for crash in sorted(still | (set(crashes.iterdir()) - known)):
        sys.stderr.write(f"  {sys.executable} -m {AGAIN} {_target(crash)} {crash}\n")
    return len(broken)


def _target(crash: Path) -> str:
    return crash.name.partition("-")[0]


def _is_mended(crash: Path) -> bool:
    """Say whether what broke a target once does so no more, or its target is there no more."""
    if _target(crash) not in TARGETS:
        return True
    command = [sys.executable, "-m", AGAIN, _target(crash), str(crash)]
    try:
        return subprocess.run(command, capture_output=True, timeout=SLACK_S).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _holds(name: str, seconds: int, crashes: Path) -> bool:
    """Fuzz one target; show what its fuzzer said only where it broke."""
    limits = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048", "-max_len=8192"]
    log = FOLDER / f"{name}.log"
    command = [sys.executable, "-m", "tests.fuzz.harnesses", name, "--", *limits]
    with log.open("wb") as output:
        try:
            ran = subprocess.run(
                [*command, f"-artifact_prefix={crashes}/{name}-"],
                stdout=output, stderr=subprocess.STDOUT, timeout=seconds + SLACK_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            sys.stderr.write(f"{name}: did not end. The log: {log}\n")
            return False
    said = log.read_text(errors="replace").splitlines()
    sys.stderr.write(f"{name}: {said[-1] if said else 'nothing'}\n")
    if ran.returncode != 0:
        sys.stderr.write("\n".join(said[-40:]) + f"\n{name} broke. The log: {log}\n")
    return ran.returncode == 0


if __name__ == "__main__":
    sys.exit(1 if main(int(sys.argv[1])) else 0)
