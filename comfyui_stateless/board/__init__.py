"""What the server is doing now and did last: all jobs and its own state, told as it changes."""

from .board import Board
from .recent import Recent
from .status import ServerStatus

__all__ = ["Board", "Recent", "ServerStatus"]
