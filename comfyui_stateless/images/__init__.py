"""Images: PNG from pixels, and conversion to the formats of ``convert_output``."""

from __future__ import annotations

from .convert import convert_file, encode
from .frame import Frame
from .options import ConvertOutput, Options
from .png import encode_png

__all__ = ["ConvertOutput", "Frame", "Options", "convert_file", "encode", "encode_png"]
