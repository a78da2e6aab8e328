"""The probes, which the launcher answers by itself, also while ComfyUI is down."""

from __future__ import annotations

import asyncio
import json

import aiohttp
from aiohttp import web

from ..errors import MethodNotAllowed
from ..readiness import probe_body
from .answers import json_answer
from .life import Life
from .paths import PREFIX
from .upstream import Upstream

HEALTH = "/health"
READY = "/ready"
ALLOWED = ("GET", "HEAD")

NOT_YET = "ComfyUI is not warm yet."


class Probes:
    """Answers ``/health`` and ``/ready``.

    Args:
        version: What the answers say of us.
        patience_s: Seconds after which a ComfyUI that has not answered is not ready.
    """

    def __init__(self, life: Life, upstream: Upstream, version: str, patience_s: float) -> None:
        self._life = life
        self._upstream = upstream
        self._version = version
        self._patience = aiohttp.ClientTimeout(total=patience_s)
        self._question: asyncio.Task[str | None] | None = None

    async def answer(self, request: web.BaseRequest, path: str) -> web.Response:
        """Answer a probe.

        Raises:
            MethodNotAllowed: It is neither GET nor HEAD.
        """
        if request.method not in ALLOWED:
            allowed = ", ".join(ALLOWED)
            raise MethodNotAllowed(
                f"{path} does not take {request.method}, but {allowed}.", headers={"Allow": allowed}
            )
        return self._health() if path == HEALTH else await self._ready()

    async def close(self) -> None:
        """Give up a question that is under way."""
        if self._question is not None:
            self._question.cancel()
            await asyncio.gather(self._question, return_exceptions=True)

    def _health(self) -> web.Response:
        life = self._life
        if life.warm:
            return json_answer(probe_body(self._version, "healthy", life.reason), 200)
        reason = life.reason or life.not_warm or NOT_YET
        return json_answer(probe_body(self._version, "not healthy", reason), 500)

    async def _ready(self) -> web.Response:
        reason = self._life.reason or await self._asked()
        # It may have ended while it was asked.
        reason = self._life.reason or reason
        if reason is None:
            self._life.found_ready()
            return json_answer(probe_body(self._version, "ready", None), 200)
        return json_answer(probe_body(self._version, "not ready", reason), 503)

    async def _asked(self) -> str | None:
        """Return why ComfyUI is not ready, None if it is; all who ask at once share one question."""
        if self._question is None:
            self._question = asyncio.ensure_future(self._ask())
            self._question.add_done_callback(self._forget)
        return await asyncio.shield(self._question)

    def _forget(self, _: asyncio.Task[str | None]) -> None:
        self._question = None

    async def _ask(self) -> str | None:
        url = self._upstream.url(PREFIX + READY)
        try:
            async with self._upstream.session.get(url, timeout=self._patience) as answer:
                return None if answer.status == 200 else _reason(answer.status, await answer.read())
        except asyncio.TimeoutError:
            return f"ComfyUI has not answered within {self._patience.total:g} seconds."
        except aiohttp.ClientError:
            return "ComfyUI does not answer."


def _reason(status: int, body: bytes) -> str:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    reason = document.get("reason") if isinstance(document, dict) else None
    return str(
        reason or f"ComfyUI answered {status} when asked: its log says whether it loaded us."
    )
