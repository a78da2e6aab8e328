"""Telling receivers what happened: signed, policed, tried again, and never lost on the way."""

from ..access import check_secret
from .posting import Timeouts
from .signing import Signer
from .system import SystemWebhook
from .webhooks import Options, Webhooks

__all__ = [
    "Options",
    "Signer",
    "SystemWebhook",
    "Timeouts",
    "Webhooks",
    "check_secret",
]
