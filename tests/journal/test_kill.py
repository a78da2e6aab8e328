from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from comfyui_stateless.journal import Content
from comfyui_stateless.journal.journal import Journal, Limits
from tests.journal.worker import LARGE

ROOT = Path(__file__).parents[2]
KILLS = 6


def killed(folder: Path, name: str, after_s: float) -> list[str]:
    """Let a worker run until some time after its first word, kill it; return what it said."""
    command = [sys.executable, "-m", "tests.journal.worker", str(folder), name]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        first = worker.stdout.readline()
        time.sleep(after_s)
        worker.kill()
        said, _ = worker.communicate()
    return [line for line in (first + said).splitlines(keepends=False) if line]


def promises(lines: list[str]) -> dict[str, set[str]]:
    """Return the run ids by what was said of them."""
    found = defaultdict(set)
    for line in lines:
        what, _, run_id = line.partition(" ")
        found[what].add(run_id)
    return found


def read(content: Content | None) -> bytes:
    assert content is not None
    return content.read()


async def test_a_process_that_is_killed_keeps_its_promises(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    lines: list[str] = []
    for kill in range(KILLS):
        lines += killed(folder, f"{kill}", random.uniform(0, 0.25))
    said = promises(lines)

    journal = await Journal.open(folder, Limits(result_ttl_s=1e9))
    try:
        unfinished = {job.run_id: job for job in await journal.unfinished()}
        due = {message.run_id for message in await journal.due_messages()}
        results = {run for run in said["accepted"] if await journal.result_of_run(run)}

        assert said["accepted"] <= unfinished.keys() | results
        assert not unfinished.keys() & results
        assert said["finished"] <= results
        assert said["finished"] - {run for run in results if run.endswith("7")} <= due
        assert not said["delivered"] & due

        for run_id in unfinished:
            contents = await journal.job_contents(run_id)
            assert contents.request.read() == LARGE + run_id.encode()
            assert contents.files["shared"].read() == LARGE
        for run_id in due:
            assert (await journal.body(f"msg_{run_id}")).read() == LARGE + run_id.encode()
        for run_id in results:
            result = await journal.result_of_run(run_id)
            assert result is not None
            assert read(result.files["output"]) == LARGE + run_id.encode()

        on_disk = {path.name for path in (folder / "files").iterdir()}
        rows = journal._database.read_side.execute("SELECT DISTINCT digest FROM contents")
        assert on_disk == {digest for (digest,) in rows if digest}
        assert len(said["accepted"]) >= KILLS
    finally:
        await journal.close()
