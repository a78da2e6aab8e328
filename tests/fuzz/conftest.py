"""Random inputs: a few of them, the same in every run, in the suite; many new ones in `make fuzz`.

``STATELESS_TEST_FUZZ`` is how many times as many examples there are as in the suite. What breaks a test
then is kept in `.comfyui/fuzz/`, tried again first the next time, and said with how to repeat it.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.fuzz.harnesses.folder import FOLDER

TIMES = int(os.environ.get("STATELESS_TEST_FUZZ", "1"))

settings.register_profile(
    "fuzz",
    max_examples=40 * TIMES,
    deadline=None,
    database=None if TIMES == 1 else DirectoryBasedExampleDatabase(FOLDER / "hypothesis"),
    derandomize=TIMES == 1,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("fuzz")
