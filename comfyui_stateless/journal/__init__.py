"""What has to outlive the process: accepted jobs, messages that are due, results."""

from .journal import Journal, Limits
from .values import (
    AcceptedJob,
    Content,
    DueMessage,
    GivenUp,
    IdempotencyKey,
    JobContents,
    KeyOwner,
    Message,
    NewJob,
    Source,
    Stats,
    StoredResult,
)

__all__ = [
    "AcceptedJob",
    "Content",
    "DueMessage",
    "GivenUp",
    "IdempotencyKey",
    "JobContents",
    "Journal",
    "KeyOwner",
    "Limits",
    "Message",
    "NewJob",
    "Source",
    "Stats",
    "StoredResult",
]
