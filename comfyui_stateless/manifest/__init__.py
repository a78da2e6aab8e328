"""What an installation has beside ComfyUI: packages, custom nodes, models; read and put in place."""

from .entries import Entry, Manifest, ModelEntry, NodeEntry, Place
from .installing import install, install_later, plan
from .models import release
from .progress import BarReport, LogReport, Report, open_report
from .reading import read

__all__ = [
    "BarReport",
    "Entry",
    "LogReport",
    "Manifest",
    "ModelEntry",
    "NodeEntry",
    "Place",
    "Report",
    "install",
    "install_later",
    "open_report",
    "plan",
    "read",
    "release",
]
