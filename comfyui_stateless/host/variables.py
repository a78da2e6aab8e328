"""What the variables of comfyui-api would say of this ComfyUI, for workflow files that read them."""

from __future__ import annotations

import folder_paths
from comfy.cli_args import args

ANYWHERE = ("0.0.0.0", "::", "")  # noqa: S104  # compared with, not bound to


def variables() -> dict[str, str]:
    """Return the folders and the address, by the names of the variables."""
    listen = str(args.listen).partition(",")[0].strip()
    return {
        "COMFY_HOME": folder_paths.base_path,
        "MODEL_DIR": folder_paths.models_dir,
        "INPUT_DIR": folder_paths.get_input_directory(),
        "OUTPUT_DIR": folder_paths.get_output_directory(),
        "DIRECT_ADDRESS": "127.0.0.1" if listen in ANYWHERE else listen,
        "COMFYUI_PORT_HOST": str(args.port),
    }
