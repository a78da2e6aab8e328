"""Times the import of the extension; ComfyUI runs this before it loads any pack.

ComfyUI's own "Import times for custom nodes" are in tenths of a second. The result goes to the
log, as one line of JSON.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

LATE = ("azure", "boto3", "huggingface_hub", "prometheus_client", "pyvips", "swagger_ui")
"""Modules that are to be imported only when they are needed."""

original = importlib.util.spec_from_file_location


def spec_from_file_location(name: str, location: Any = None, **given: Any) -> ModuleSpec | None:
    """Do as ``importlib`` does, and put a clock on the extension's loader."""
    spec = original(name, location, **given)
    if spec and spec.loader and (Path(location).parent / "comfyui_stateless").is_dir():
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            before = set(sys.modules)
            began = time.perf_counter()
            load(module)
            seconds = time.perf_counter() - began
            early = [name for name in LATE if name in sys.modules and name not in before]
            print("benchmark-import", json.dumps({"seconds": seconds, "early": early}), flush=True)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
    return spec


importlib.util.spec_from_file_location = spec_from_file_location
