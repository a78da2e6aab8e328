"""What clients see: the probes, the API at the root, and nothing else unless it is asked for."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from aiohttp import web

from .. import __version__
from ..errors import MethodNotAllowed, NotFound, StatelessError, TooLarge, Unavailable
from ..hosts import require_host
from ..origins import require_asked, require_own_page
from ..packing import has_lost_its_body, require_body, require_known_packing, require_known_version
from ..stalls import FIRST_REQUEST_S
from .answers import refusal
from .connections import Server
from .exposed import Guard
from .forwarding import RETRY, forward
from .headers import is_websocket
from .life import Life, Phase
from .listening import listening
from .paths import is_plain, target_of
from .probes import HEALTH, READY, Probes
from .upstream import BUFFER_BYTES, Upstream
from .websockets import bridge

CUT_OFF_S = 0.1
"""Within which a request that is cut off has to have noticed."""


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """What the gateway is told.

    Attributes:
        host: A name or an address to listen on; ``::`` is every one of this machine, IPv4 too.
        port: To listen on; 0 takes one that is free.
        upstream: ComfyUI's server, such as ``http://127.0.0.1:8188``.
        keys: The API keys; for the API itself the extension checks them.
        hosts: The names that the server may be called by, besides its probes; none is any.
        expose_comfyui: Whether ComfyUI's own routes appear too.
        max_body_bytes: The largest body that the API takes.
        version: What the probes say.
        probe_s: Seconds that ComfyUI has to say whether it is ready.
        first_request_s: Seconds that a new connection has to send a request's headers.
    """

    host: str = "::"
    port: int = 3000
    upstream: str = "http://127.0.0.1:8188"
    keys: tuple[str, ...] = field(default=(), repr=False)
    hosts: frozenset[str] = frozenset()
    expose_comfyui: bool = False
    max_body_bytes: int = 100 * 1024 * 1024
    version: str = __version__
    probe_s: float = 2.0
    first_request_s: float = FIRST_REQUEST_S


class Gateway:
    """The launcher's server.

    Attributes:
        port: What it listens on, once it is started.
    """

    def __init__(self, options: GatewayOptions, life: Life) -> None:
        self.port = options.port
        self._options = options
        self._life = life
        self._upstream = Upstream(options.upstream)
        self._probes = Probes(life, self._upstream, options.version, options.probe_s)
        self._guard = Guard(options.keys)
        self._runner: web.ServerRunner | None = None
        self._sites: list[web.SockSite] = []
        self._running = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def start(self) -> None:
        """Listen, and answer from now on.

        Raises:
            ConfigError: Names host and port, and says why they cannot be listened on.
        """
        sockets = await listening(self._options.host, self._options.port)
        self.port = sockets[0].getsockname()[1]
        server = Server(
            self._counted,
            first_request_s=self._options.first_request_s,
            read_bufsize=BUFFER_BYTES,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=CUT_OFF_S)
        await self._runner.setup()
        for listener in sockets:
            site = web.SockSite(self._runner, listener)
            await site.start()
            self._sites.append(site)

    async def close(self, grace_s: float) -> None:
        """Take no more connections, let requests that run end, and close.

        Args:
            grace_s: Seconds that they have; then they are cut off. WebSockets are not waited for.
        """
        for site in self._sites:
            await site.stop()
        self._sites.clear()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._is_idle.wait(), grace_s)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._probes.close()
        await self._upstream.close()

    async def _counted(self, request: web.BaseRequest) -> web.StreamResponse:
        if is_websocket(request.headers):
            return await self._answered(request)
        self._running += 1
        self._is_idle.clear()
        try:
            return await self._answered(request)
        finally:
            self._running -= 1
            if not self._running:
                self._is_idle.set()

    async def _answered(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._routed(request)
        except StatelessError as error:
            response = refusal(request, error)
            if has_lost_its_body(request):
                await response.prepare(request)
                await response.write_eof()
            return response

    async def _routed(self, request: web.BaseRequest) -> web.StreamResponse:
        require_known_version(request.version)
        require_body(request)
        path = request.rel_url.raw_path
        if path in (HEALTH, READY):
            return await self._probes.answer(request, path)
        if request.method == "CONNECT":
            raise MethodNotAllowed("This is no proxy.", headers={"Allow": "GET, HEAD, POST"})
        if self._options.hosts:
            require_host(request.headers, self._options.hosts)
        require_own_page(request.headers)
        require_asked(request.method, request.headers)
        if target := target_of(path):
            self._require_within(request.content_length)
            if request.body_exists:
                require_known_packing(request.headers)
            if not self._tells_while_draining(request.method):
                self._require_up()
            try:
                return await forward(request, self._upstream, target)
            except Unavailable:
                self._require_up()  # what is known of its life says more
                raise
        return await self._comfyui(request, path)

    async def _comfyui(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Pass a request on to one of ComfyUI's own routes."""
        if not self._options.expose_comfyui or not is_plain(path):
            raise NotFound(f"There is no route {path}; /docs lists all there are.")
        bearer = self._guard.admit(request.headers, path)
        self._require_up()
        if is_websocket(request.headers):
            return await bridge(request, self._upstream, path, bearer)
        return await forward(request, self._upstream, path, bearer)

    def _require_within(self, length: int | None) -> None:
        limit = self._options.max_body_bytes
        if length is not None and length > limit:
            raise TooLarge(
                f"The body is larger than the {limit} bytes that MAX_BODY_SIZE_MB allows."
            )

    def _tells_while_draining(self, method: str) -> bool:
        """Whether a request only asks: of jobs that still run, while the rest is refused."""
        return self._life.phase is Phase.DRAINING and method in ("GET", "HEAD")

    def _require_up(self) -> None:
        if reason := self._life.reason:
            raise Unavailable(reason, headers=RETRY)
