"""Workflow endpoints: files that turn named inputs into graphs.

Python files of endpoints import from here what ``__all__`` names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .helpers import (
        Audio,
        Checkpoint,
        File,
        Image,
        Mask,
        Model,
        Sampler,
        Scheduler,
        Seed,
        Video,
        WrongInput,
        models,
        samplers,
        schedulers,
    )

    warmup_checkpoint: str | None

__all__ = [
    "Audio",
    "Checkpoint",
    "File",
    "Image",
    "Mask",
    "Model",
    "Sampler",
    "Scheduler",
    "Seed",
    "Video",
    "WrongInput",
    "models",
    "samplers",
    "schedulers",
    "warmup_checkpoint",
]


def __getattr__(name: str) -> Any:
    """Return a helper. Only files that need them pay for loading them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import helpers

    if name == "warmup_checkpoint":
        return helpers.current().warmup_checkpoint
    return getattr(helpers, name)
