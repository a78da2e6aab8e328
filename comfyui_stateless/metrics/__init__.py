"""What the server did and how it is, in the form that Prometheus reads."""

from .metrics import Metrics
from .tallies import Tallies

__all__ = ["Metrics", "Tallies"]
