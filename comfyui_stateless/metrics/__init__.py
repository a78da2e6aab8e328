"""What the server did and how it is, in the form that Prometheus reads."""

from .metrics import Metrics
from .sources import Source
from .tallies import Tallies

__all__ = ["Metrics", "Source", "Tallies"]
