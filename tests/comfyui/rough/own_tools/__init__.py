"""Puts functions of its own in the place of Python's and Pillow's, as packs do for their needs."""

import json

from PIL import Image

dumps, loads, opened = json.dumps, json.loads, Image.open


def readable(obj, **options):
    options.setdefault("ensure_ascii", False)
    return dumps(obj, **{**options, "indent": 2, "ensure_ascii": False})


def quick(text):
    return loads(text)


def logged(fp, mode="r", formats=None):
    return opened(fp, mode, formats)


json.dumps, json.loads, Image.open = readable, quick, logged
Image.MAX_IMAGE_PIXELS = None

NODE_CLASS_MAPPINGS = {}
