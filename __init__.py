"""The entry that ComfyUI imports: it puts the stateless API into the running server."""

import logging
import sys
from pathlib import Path

NODE_CLASS_MAPPINGS: dict[str, type] = {}
"""Empty: this pack brings an API, no nodes for the editor."""

WEB_DIRECTORY: str | None = "./js"
"""The tab in the editor. It is there also when the API is off, and says why."""

if __package__ and "folder_paths" in sys.modules:  # in ComfyUI, not in a tool that reads packages
    try:
        from .comfyui_stateless.plugin import load

        if not load():  # another copy is there, with its tab
            WEB_DIRECTORY = None
    except Exception as error:  # noqa: BLE001  whatever is missing, ComfyUI has to start
        needed = Path(__file__).resolve().with_name("requirements.txt")
        logging.getLogger("comfyui_stateless").error(
            "The stateless API is off: %s: %s%s",
            type(error).__name__,
            error,
            f". Get what it needs: {sys.executable} -m pip install -r {needed}"
            if isinstance(error, ImportError)
            else "",
        )

__all__ = ["NODE_CLASS_MAPPINGS", "WEB_DIRECTORY"]
