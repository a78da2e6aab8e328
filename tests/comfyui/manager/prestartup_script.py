"""Loads ComfyUI-Manager as ComfyUIs that know it do, on one that is older than their flag for it."""

import comfyui_manager
from comfy.cli_args import args

args.enable_manager, args.enable_manager_legacy_ui = True, False
comfyui_manager.prestartup()
