"""What handlers find in their application."""

from __future__ import annotations

from aiohttp import web

from ..pipeline import Services
from .disconnects import Disconnects
from .document import Document

SERVICES = web.AppKey("stateless_services", Services)
DISCONNECTS = web.AppKey("stateless_disconnects", Disconnects)
DOCUMENT = web.AppKey("stateless_document", Document)
