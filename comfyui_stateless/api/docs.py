"""The API's description: the OpenAPI document and a page that shows it, without any network.

The page and its parts are addressed relative to where it stands, so that it works under every
prefix. Swagger UI itself comes from the installed package ``swagger-ui-py``.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from aiohttp import web

from ..errors import NotFound, Unavailable
from .state import DOCUMENT

START = "start.js"

ASSETS = frozenset(
    {
        "favicon-32x32.png",
        "swagger-ui-bundle.js",
        "swagger-ui.css",
    }
)
"""The files of Swagger UI that the page loads."""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ComfyUI Stateless API</title>
<link rel="icon" type="image/png" href="{here}favicon-32x32.png">
<link rel="stylesheet" href="{here}swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{here}swagger-ui-bundle.js"></script>
<script src="{here}start.js" data-document="{here}json"></script>
</body>
</html>
"""

_START = """SwaggerUIBundle({
  url: document.currentScript.dataset.document,
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: true,
  validatorUrl: null,
});
"""


async def openapi(request: web.Request) -> web.Response:
    """Answer with the OpenAPI document."""
    return _json(await request.app[DOCUMENT].for_server("."))


async def openapi_below_docs(request: web.Request) -> web.Response:
    """Answer with the same document, for the place one level down."""
    return _json(await request.app[DOCUMENT].for_server(".."))


async def page(request: web.Request) -> web.Response:
    """Answer with the page."""
    _swagger_ui()
    here = "" if request.path.endswith("/") else "docs/"
    return web.Response(text=_PAGE.format(here=here), content_type="text/html")


async def asset(request: web.Request) -> web.StreamResponse:
    """Answer with a file that the page loads."""
    name = request.match_info["name"]
    if name == START:
        return web.Response(text=_START, content_type="text/javascript")
    if name not in ASSETS:
        raise NotFound(f"The docs page has no file {name}.")
    return web.FileResponse(_swagger_ui() / name)


def _swagger_ui() -> Path:
    # Looked up, not imported: the package's own code would load frameworks for nothing.
    found = importlib.util.find_spec("swagger_ui")
    places = found.submodule_search_locations if found else None
    files = Path(places[0]) / "static" if places else None
    if files is None or not files.is_dir():
        raise Unavailable(
            "The docs page needs the Python package swagger-ui-py: run "
            "`pip install swagger-ui-py`. The OpenAPI document is at openapi.json."
        )
    return files


def _json(document: bytes) -> web.Response:
    return web.Response(body=document, content_type="application/json", charset="utf-8")
