"""Getting a ComfyUI and the Python environments it runs in."""
