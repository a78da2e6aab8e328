"""ComfyUI's server, as the gateway talks to it."""

from __future__ import annotations

import aiohttp
from yarl import URL

CONNECT_S = 10.0
BUFFER_BYTES = 64 * 1024
"""What is read ahead of a slow reader, of each answer; the socket's own buffers come on top."""

_NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Upstream:
    """Connections to ComfyUI's server, kept and used again.

    Args:
        base: Its address, such as ``http://127.0.0.1:8188``.
    """

    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The connections; made when they are first needed, since that needs a running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_NOT_ADDED,
                auto_decompress=False,
                read_bufsize=BUFFER_BYTES,
                # A job may take hours, and say nothing until it is done.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            )
        return self._session

    def url(self, target: str, query: str = "") -> URL:
        """Return the URL of a path and a query that are encoded as they have to be."""
        return URL(f"{self._base}{target}{'?' if query else ''}{query}", encoded=True)

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None
