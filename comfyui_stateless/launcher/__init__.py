"""The program around ComfyUI: it installs, starts, watches and ends it, and serves its API."""
