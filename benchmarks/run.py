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
    chart,
    downloads,
    frames,
    gateway,
    held,
    larger,
    memory,
    pictures,
    prepared,
    queueing,
    report,
    smallest,
    startup,
    streams,
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

# These start ComfyUIs of their own.
FRESH: dict[str, Callable[[Install, Plan], list[Row]]] = {
    "held": held.measure,
    "streams": streams.measure,
    "import": startup.measure,
}

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
    rows = measured(comfyui, plan, options)
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
        "beside": options.beside,
    }
    path = RESULTS / f"{began:%Y%m%d-%H%M%S}.json"
    report.write(path, rows, about)
    path.with_suffix(".svg").write_text(chart.svg(rows, heading(about)))
    show(rows, about, options)
    print(f"\nEvery round: {path}, as a picture: {path.with_suffix('.svg').name}")
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    names = (*MEASURES, *FRESH, *APART)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=positive, help="of each measurement; default: 5")
    parser.add_argument(
        "--quick", action="store_true", help="two small rounds: to see that it works"
    )
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument(
        "--beside", metavar="COMMAND", help="a server to measure too; see the README's section"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="an earlier run's file")
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    """Return a number of rounds."""
    if (number := int(text)) < 1:
        raise ValueError("At least one.")
    return number


def measured(comfyui: Install, plan: Plan, options: argparse.Namespace) -> list[Row]:
    """Return the rows of the measurements named."""
    rows: list[Row] = []
    only = options.only
    wanted = [name for name in MEASURES if name in only]
    if wanted:
        with running(comfyui, plan, options.beside) as bench:
            for name in wanted:
                print(f"measuring: {name}", file=sys.stderr, flush=True)
                rows += MEASURES[name](bench)
    for name in (name for name in FRESH if name in only):
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        rows += FRESH[name](comfyui, plan)
    for name in (name for name in APART if name in only):
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        rows += APART[name](plan)
    return rows


def heading(about: dict[str, Any]) -> str:
    """Return what was measured, on what machine."""
    return (
        f"ComfyUI {about['comfyui']} on {about['machine']}, {about['rounds']} round{'s' if about['rounds'] > 1 else ''}; load before "
        f"{about['load_before'][0]:.1f}{' (a quick run)' if about['quick'] else ''}"
    )


def show(rows: Sequence[Row], about: dict[str, Any], options: argparse.Namespace) -> None:
    """Print the table, and how it compares with an earlier run."""
    print(f"{heading(about)}. Medians (lowest-highest of the rounds).\n")
    print(report.markdown(rows) if options.markdown else report.table(rows))
    for line in report.notes(rows):
        print(f"* {line}")
    if options.compare:
        print(f"\n{report.comparison(rows, options.compare, quick=about['quick'])}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
