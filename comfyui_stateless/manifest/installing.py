"""The steps in their order, and what they would do."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from . import apt, models, nodes, pip
from .entries import Manifest, Place
from .progress import Report

STEPS = (apt, pip, nodes, models)


async def install(manifest: Manifest, place: Place, *, report: Report) -> None:
    """Do steps 1 to 4: apt packages, pip packages, custom nodes, models before the start.

    Done again it is quick and changes nothing. Cancelled, what it runs is ended.

    Raises:
        ManifestError: Two models have the same local path.
        InstallationFailed: Something cannot be installed; the message names the entry and its line.
    """
    for step in STEPS:
        await step.install(manifest, place, report)


async def install_later(manifest: Manifest, place: Place, *, report: Report) -> None:
    """Do step 5: models after the start. A failure is told and tried again, and raises nothing."""
    await models.install_later(manifest, place, report)


def plan(manifest: Manifest, place: Place) -> list[str]:
    """Return a line for each thing that would be done; nothing is done, but origins are asked.

    Raises:
        ManifestError: Two models have the same local path.
        InstallationFailed: It cannot be seen what is there: ComfyUI's Python does not run.
    """
    # A thread of its own, because the caller's may have an event loop that runs.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(_plan(manifest, place))).result()


async def _plan(manifest: Manifest, place: Place) -> list[str]:
    return [line for step in STEPS for line in await step.plan(manifest, place)]
