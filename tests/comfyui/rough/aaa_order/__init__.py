"""See prestartup_script.py."""

NODE_CLASS_MAPPINGS = {}
