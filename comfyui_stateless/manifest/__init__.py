"""What an installation has beside ComfyUI: packages, custom nodes, models; read and put in place."""
