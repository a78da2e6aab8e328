"""Who may use ComfyUI's own routes, where they appear on the launcher's port."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence

from ..errors import ForeignOrigin, Unauthorized
from ..keys import accepts, encoded, shown
from ..origins import require_own_page

PAGE = "/"


class Guard:
    """Lets in who shows an API key, if there are any.

    A program shows it as for the API. A browser cannot: it is asked for a user, who may have any
    name, and a password, which is the key. From then on it sends them by itself, with WebSockets
    too, so that pages of other origins have to be kept out.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._accepted = encoded(keys)

    def admit(self, headers: Mapping[str, str], path: str) -> str | None:
        """Let a request in; return the key if a browser showed it, in a form that we alone read.

        Raises:
            Unauthorized: It shows no key.
            ForeignOrigin: A browser adds the key to what is not this server's page.
        """
        if not self._accepted or accepts(self._accepted, shown(headers)):
            return None
        password = _password(headers.get("Authorization", ""))
        if password is None or not accepts(self._accepted, [password]):
            raise Unauthorized(
                "This server needs an API key, as `Authorization: Bearer <key>` or "
                "`X-API-Key: <key>`; in a browser as the password, of any user.",
                headers={"WWW-Authenticate": 'Basic realm="ComfyUI", charset="UTF-8"'},
            )
        require_own_page(headers, anywhere=True)
        if headers.get("Sec-Fetch-Site") in ("cross-site", "same-site") and path != PAGE:
            raise ForeignOrigin("A page of another origin links to this: open it from this server.")
        return password


def _password(authorization: str) -> str | None:
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(text.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return None
