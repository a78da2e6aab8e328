"""What handlers find in their application."""

from __future__ import annotations

from aiohttp import web

from ..background import Background
from ..board import Board
from ..metrics import Metrics
from ..pipeline import Services
from ..workflows.collection import Workflows
from .admission import Admission
from .disconnects import Disconnects
from .document import Document

BACKGROUND = web.AppKey("stateless_background", Background)
WORKFLOWS = web.AppKey("stateless_workflows", Workflows)
SERVICES = web.AppKey("stateless_services", Services)
ADMISSION = web.AppKey("stateless_admission", Admission)
DISCONNECTS = web.AppKey("stateless_disconnects", Disconnects)
BOARD = web.AppKey("stateless_board", Board)
METRICS = web.AppKey("stateless_metrics", Metrics)
DOCUMENT = web.AppKey("stateless_document", Document)

TEMPLATES = web.AppKey("stateless_templates", dict[web.AbstractResource, str])
"""The paths of the routes, as they are declared."""
