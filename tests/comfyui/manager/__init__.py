"""See prestartup_script.py."""

import comfyui_manager
from server import PromptServer

PromptServer.instance.app.middlewares.append(comfyui_manager.create_middleware())
comfyui_manager.start()

NODE_CLASS_MAPPINGS = {}
