"""The files that a graph names by address or brings along.

``find`` says what there is to do, without doing any of it; ``Fetcher`` does one of those things and
returns what the node gets in place of the address.
"""

from __future__ import annotations

from .fetching import Brought, Fetcher, Tell, linked_name
from .given import Given, Uploaded, inline_file, uploaded
from .together import all_or_first_error
from .wanted import UPLOAD, Wanted, failed, find, is_address, texts

__all__ = [
    "UPLOAD", "Brought", "Fetcher", "Given", "Tell", "Uploaded", "Wanted", "all_or_first_error",
    "failed", "find", "inline_file", "is_address", "linked_name", "texts", "uploaded",
]  # fmt: skip
