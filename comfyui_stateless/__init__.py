"""A stateless HTTP API inside ComfyUI's own server."""

__version__ = "0.1.0"
