#!/usr/bin/env python3
"""Measure the extension beside ComfyUI's own routes, in one ComfyUI; see benchmarks/README.md.

Run it with `make bench ARGS="…"`, which gets a ComfyUI ready and names it.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

# As a script it finds its neighbours as the package that they are for the type checker.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import (
    downloads,
    frames,
    gateway,
    larger,
    memory,
    pictures,
    prepared,
    queueing,
    report,
    smallest,
    startup,
    worker,
)  # fmt: skip
from benchmarks.bench import QUICK, Bench, Plan, install, running
from benchmarks.rows import Row
from comfyui_stateless import __version__
from tests.comfyui.server import Install

RESULTS = Path(__file__).parent / "results"

# The memory comes first: what other requests have freed would hide its growth.
MEASURES: dict[str, Callable[[Bench], list[Row]]] = {
    "memory": memory.measure,
    "frames": frames.measure,
    "smallest": smallest.measure,
    "larger": larger.measure,
    "pictures": pictures.measure,
    "worker": worker.measure,
    "queue": queueing.measure,
    "prepared": prepared.measure,
}
IMPORT = "import"

# These need no ComfyUI.
APART: dict[str, Callable[[Plan], list[Row]]] = {
    "download": downloads.measure_download,
    "s3": downloads.measure_s3,
    "shared": downloads.measure_shared,
    "gateway": gateway.measure,
}


def main(arguments: Sequence[str]) -> int:
    """Run the command line. Returns the exit status: 0 also where a budget is missed."""
    options = parse(arguments)
    plan = QUICK if options.quick else Plan()
    plan = replace(plan, rounds=options.rounds or plan.rounds)
    comfyui = install()
    began, load = datetime.now(timezone.utc), os.getloadavg()
    rows = measured(comfyui, plan, options.only)
    about = {
        "began": began.isoformat(timespec="seconds"),
        "extension": __version__,
        "comfyui": comfyui.version,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load_before": load,
        "load_after": os.getloadavg(),
        "quick": options.quick,
        "rounds": plan.rounds,
    }
    path = RESULTS / f"{began:%Y%m%d-%H%M%S}.json"
    report.write(path, rows, about)
    show(rows, about, options.compare)
    print(f"\nEvery round: {path}")
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    names = (*MEASURES, IMPORT, *APART)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=positive, help="of each measurement; default: 5")
    parser.add_argument(
        "--quick", action="store_true", help="two small rounds: to see that it works"
    )
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument("--compare", type=Path, metavar="FILE", help="an earlier run's file")
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    """Return a number of rounds."""
    if (number := int(text)) < 1:
        raise ValueError("At least one.")
    return number


def measured(comfyui: Install, plan: Plan, only: Sequence[str]) -> list[Row]:
    """Return the rows of the measurements named."""
    rows: list[Row] = []
    wanted = [name for name in MEASURES if name in only]
    if wanted:
        with running(comfyui, plan) as bench:
            for name in wanted:
                print(f"measuring: {name}", file=sys.stderr, flush=True)
                rows += MEASURES[name](bench)
    if IMPORT in only:
        print(f"measuring: {IMPORT}", file=sys.stderr, flush=True)
        rows += startup.measure(comfyui, plan)
    for name in (name for name in APART if name in only):
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        rows += APART[name](plan)
    return rows


def show(rows: Sequence[Row], about: dict[str, Any], earlier: Path | None) -> None:
    """Print the table, and how it compares with an earlier run."""
    print(
        f"ComfyUI {about['comfyui']} on {about['machine']}, {about['rounds']} rounds; load before "
        f"{about['load_before'][0]:.1f}. Medians (lowest-highest of the rounds).\n"
    )
    print(report.table(rows))
    for line in report.notes(rows):
        print(f"* {line}")
    if earlier:
        print(f"\n{report.comparison(rows, earlier, quick=about['quick'])}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
