"""How fast the extension is, beside ComfyUI's own routes in the same process; see README.md."""
