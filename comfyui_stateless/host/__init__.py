"""ComfyUI as an engine: the only package that imports it."""
