"""What has to outlive the process: accepted jobs, messages that are due, results.

``journal.journal`` keeps these values, in SQLite, and is imported when it is opened.
"""

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
    new_message_id,
)

__all__ = [
    "AcceptedJob",
    "Content",
    "DueMessage",
    "GivenUp",
    "IdempotencyKey",
    "JobContents",
    "KeyOwner",
    "Message",
    "NewJob",
    "Source",
    "Stats",
    "StoredResult",
    "new_message_id",
]
