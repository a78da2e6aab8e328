"""Files by URL: fetched once, kept in a folder, whole or not there."""

from .cache import Cache
from .counts import Counts, Held
from .eviction import FileEvent
from .lease import Inspection, Lease
from .progress import DownloadProgress

__all__ = ["Cache", "Counts", "DownloadProgress", "FileEvent", "Held", "Inspection", "Lease"]
