"""The ComfyUI that is measured, and how much is asked of it."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.comfyui.server import ComfyServer, Install

from .beside import beside
from .bursts import Burst, burst
from .graphs import Task
from .sides import Ours, Plain, Side, WrongAnswer

VARIABLE = "STATELESS_TEST_COMFYUIS"
PACK = Path(__file__).parent / "pack"
CLEAN_UP_S = 5


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        requests: Of the smallest graph in each burst of eight clients; one client does half.
        pictures: Pictures of 1024 by 1024 in each burst of ours; of the plain side a third.
        jobs: Jobs that wait while ``/ready`` is asked.
        probes: Times that it is asked.
        large_mib: Size of the large file.
        frames: Frames in the large batch.
        held: Jobs that are accepted and wait, one measurement for each number.
        streams: Streams of events that are open while requests come.
        download_mib, limited_mib, s3_mib: Sizes of what is downloaded, from the servers named.
    """

    rounds: int = 5
    requests: int = 400
    pictures: int = 72
    jobs: int = 1000
    probes: int = 1000
    large_mib: int = 1024
    frames: int = 500
    held: tuple[int, ...] = (1000, 10_000)
    streams: int = 200
    download_mib: int = 2048
    limited_mib: int = 2048
    s3_mib: int = 1024


QUICK = Plan(
    rounds=2,
    requests=80,
    pictures=24,
    jobs=200,
    probes=200,
    large_mib=128,
    frames=100,
    held=(100, 200),
    streams=20,
    download_mib=128,
    limited_mib=128,
    s3_mib=64,
)


@dataclass(frozen=True)
class Clocks:
    """What the benchmark pack measured inside the process, in seconds.

    Attributes:
        executions: Time that each prompt took to execute, in the order of execution.
        saves: Class of the image saver, time of its call, and megapixels.
        settlements: Time of each prompt's ``task_done``.
    """

    executions: tuple[float, ...]
    saves: tuple[tuple[str, float, float], ...]
    settlements: tuple[float, ...]


class Bench:
    """A running ComfyUI with the extension and the benchmark pack."""

    def __init__(self, server: ComfyServer, plan: Plan, beside: Side | None = None) -> None:
        self.server = server
        self.plan = plan
        self.beside = beside

    @property
    def sides(self) -> tuple[Side, ...]:
        """Ours, plain ComfyUI, and the other server if there is one, in the order of a round."""
        return (Ours(), Plain(), *([self.beside] if self.beside else []))

    @property
    def input(self) -> Path:
        return self.server.base / "input"

    @property
    def pid(self) -> int:
        if self.server.process is None:
            raise RuntimeError("The server does not run.")
        return self.server.process.pid

    def burst(self, side: Side, tasks: Sequence[Task], clients: int) -> Burst:
        """Run a burst on a clean ComfyUI; see that ours leaves it clean.

        Raises:
            WrongAnswer: A request did not give one image, or our side left a file.
        """
        self.clear()
        result = burst(self.server.url, side, tasks, clients)
        if isinstance(side, Ours):
            self.require_no_files()
        return result

    def clear(self) -> None:
        """Empty the output folder and ComfyUI's history, and set the clocks to nothing."""
        for path in self._output():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.server.post("/history", {"clear": True})
        self.clocks()

    def require_no_files(self) -> None:
        """Raise WrongAnswer if something stays in the output folder."""
        deadline = time.monotonic() + CLEAN_UP_S
        while left := self._output():
            if time.monotonic() > deadline:
                raise WrongAnswer(f"The output folder is not empty: {left[:3]}.")
            time.sleep(0.05)

    def clocks(self) -> Clocks:
        """Return what the pack measured since this was last asked."""
        read = self.server.post("/benchmark/clocks", {}).json
        return Clocks(
            tuple(end - begin for begin, end in read["executions"]),
            tuple((name, seconds, megapixels) for name, seconds, megapixels in read["saves"]),
            tuple(read["settlements"]),
        )

    def _output(self) -> list[Path]:
        return list((self.server.base / "output").iterdir())


def install() -> Install:
    """Return the first ComfyUI of the environment.

    Raises:
        SystemExit: There is none.
    """
    found: list[dict[str, Any]] = json.loads(os.environ.get(VARIABLE) or "[]")
    if not found:
        raise SystemExit(f"{VARIABLE} names no ComfyUI; run the benchmarks with `make bench`.")
    return Install(found[0]["version"], Path(found[0]["home"]), Path(found[0]["python"]))


def extension(base: Path) -> Path:
    """Return a folder with the extension alone.

    The checkout has environments and other ComfyUIs in it, which ``GET /models/custom_nodes``
    would walk through, and stand still meanwhile.
    """
    folder = base / "extension"
    folder.mkdir()
    for name in ("__init__.py", "comfyui_stateless", "js"):
        (folder / name).symlink_to(PACK.parents[1] / name)
    return folder


@contextmanager
def started(comfyui: Install, env: Mapping[str, str]) -> Iterator[ComfyServer]:
    """Run a ComfyUI with folders of its own, which are deleted at the end."""
    with TemporaryDirectory(prefix="stateless-benchmark-") as base:
        packs = {"stateless-benchmark": PACK, "comfyui-stateless": extension(Path(base))}
        with ComfyServer(comfyui, Path(base), env, packs=packs) as server:
            server.wait_until_ready()
            yield server


@contextmanager
def running(comfyui: Install, plan: Plan, command: str | None = None) -> Iterator[Bench]:
    """Run the ComfyUI that everything but the import is measured on.

    Args:
        command: Of another server to run in front of it.
    """
    # The limit is one more than the jobs that wait: /ready then says when all of them are there.
    env = {"MAX_QUEUE_DEPTH": str(plan.jobs + 1), "HTTP_TRUSTED_ORIGINS": "*"}
    with started(comfyui, env) as server, ExitStack() as stack:
        other = stack.enter_context(beside(command, server)) if command else None
        yield Bench(server, plan, other)
