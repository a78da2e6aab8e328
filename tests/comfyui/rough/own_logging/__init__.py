"""Throws the handlers of ComfyUI's log away, and writes files of its own."""

import logging
import os

logging.basicConfig(filename=os.environ["TEST_PACK_LOG"], level=logging.DEBUG, force=True)
logging.getLogger().addHandler(logging.StreamHandler())

NODE_CLASS_MAPPINGS = {}
