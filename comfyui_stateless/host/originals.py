"""ComfyUI's own functions, told from what packs put in their place under the same name."""

from __future__ import annotations

import sys
from typing import Any


def is_original(function: Any, module: str) -> bool:
    """Say whether a function is what a module defines; a wrapper may bear the names of that.

    Args:
        module: The module's name in ``sys.modules``.
    """
    code = getattr(function, "__code__", None)
    if code is None or getattr(function, "__module__", None) != module:
        return False
    return bool(code.co_filename == getattr(sys.modules.get(module), "__file__", None))
