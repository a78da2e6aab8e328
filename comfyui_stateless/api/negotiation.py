"""From the Accept header to the form of a reply, by RFC 9110 section 12.5.1."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from ..engine import OutputFile
from ..errors import NotAcceptable
from ..outputs import described

JSON = "application/json"
MULTIPART = "multipart/mixed"
ZIP = "application/zip"
OCTETS = "application/octet-stream"
EVENTS = "text/event-stream"

SERVED = (
    "POST /prompt answers in application/json, multipart/mixed, application/zip or "
    "text/event-stream, and the only output of a graph as image/*, video/*, audio/*, model/* or "
    "application/octet-stream"
)

_QUALITY = re.compile(r"\d*\.?\d*")


class Form(Enum):
    """The forms that a reply to a prompt comes in."""

    JSON = "json"
    BYTES = "bytes"
    MULTIPART = "multipart"
    ZIP = "zip"


class Offer(NamedTuple):
    """A form that could be sent, and the media type that it would have."""

    form: Form
    media_type: str


class _Range(NamedTuple):
    media_type: str
    quality: float
    position: int

    @property
    def specificity(self) -> int:
        return 2 - self.media_type.count("*")

    def matches(self, media_type: str) -> bool:
        kind, _, _ = media_type.partition("/")
        return self.media_type in (media_type, f"{kind}/*", "*/*")


class Accept:
    """What a client takes.

    Args:
        values: The values of the Accept headers; none means that anything will do.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        texts = [text for value in values for text in value.split(",") if text.strip()]
        self._ranges = [_parse(text, i) for i, text in enumerate(texts or ["*/*"])]
        self._ranks: dict[str, tuple[float, int] | None] = {}

    def takes(self, media_type: str) -> bool:
        """Say whether a reply of this type would do."""
        return self._rank(media_type) is not None

    def takes_some(self, kind: str) -> bool:
        """Say whether a reply of some type of this kind, such as ``image``, would do."""
        return any(r.quality > 0 and r.media_type.startswith(f"{kind}/") for r in self._ranges)

    @property
    def prefers_events(self) -> bool:
        """Whether the client names event streams, and likes no other form better."""
        if not self.names_events:
            return False
        ranks = [self._rank(form) for form in (EVENTS, JSON, MULTIPART, ZIP)]
        return ranks[0] == min(rank for rank in ranks if rank)

    @property
    def names_events(self) -> bool:
        """Whether the client takes event streams, and not only as one of many types."""
        return self.takes(EVENTS) and any(r.media_type == EVENTS for r in self._ranges)

    def best(self, offers: Sequence[Offer]) -> Offer | None:
        """Return the offer that the client likes most, None if it takes none.

        Of equals the one is taken that the header names first, then the one that is offered first.
        """
        ranked = [(rank, o) for o in offers if (rank := self._rank(o.media_type)) is not None]
        return min(ranked, key=lambda pair: pair[0])[1] if ranked else None

    def _rank(self, media_type: str) -> tuple[float, int] | None:
        if media_type not in self._ranks:
            self._ranks[media_type] = self._ranked(media_type)
        return self._ranks[media_type]

    def _ranked(self, media_type: str) -> tuple[float, int] | None:
        matching = [r for r in self._ranges if r.matches(media_type)]
        if not matching:
            return None
        closest = max(matching, key=lambda r: r.specificity)
        return (-closest.quality, closest.position) if closest.quality > 0 else None


@lru_cache(maxsize=64)
def accepted(*values: str) -> Accept:
    """Return what a client takes; clients say the same in every request."""
    return Accept(values)


def require_servable(accept: Accept) -> None:
    """Refuse what no graph could be answered in, before anything runs.

    Raises:
        NotAcceptable: Names the forms that there are.
    """
    forms = (JSON, MULTIPART, ZIP, OCTETS)
    whole = any(accept.takes(media_type) for media_type in forms)
    if (
        whole
        or accept.names_events
        or any(accept.takes_some(kind) for kind in ("image", "video", "audio", "model"))
    ):
        return
    raise NotAcceptable(f"Accept takes none of the forms that there are: {SERVED}.")


def choose(accept: Accept, outputs: Sequence[OutputFile]) -> Offer:
    """Return the form to send ``outputs`` in.

    Raises:
        NotAcceptable: None fits; ``details.outputs`` lists the outputs.
    """
    offers = [Offer(Form.JSON, JSON), Offer(Form.MULTIPART, MULTIPART), Offer(Form.ZIP, ZIP)]
    if len(outputs) == 1:
        offers += [Offer(Form.BYTES, outputs[0].media_type), Offer(Form.BYTES, OCTETS)]
    best = accept.best(offers)
    if best is None:
        raise NotAcceptable(
            f"{_misfit(outputs)}: ask for application/json, multipart/mixed or application/zip.",
            details={"outputs": [described(output) for output in outputs]},
        )
    return best


def _misfit(outputs: Sequence[OutputFile]) -> str:
    if not outputs:
        return "The graph gave no output file, and Accept asks for the bytes of one"
    if len(outputs) > 1:
        return f"The graph gave {len(outputs)} outputs, and Accept asks for the bytes of one"
    return f"The only output is {outputs[0].media_type}, which Accept does not take"


def _parse(text: str, position: int) -> _Range:
    media_type, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = next((p[2:].strip() for p in parameters if p.startswith("q=")), "1")
    valid = _QUALITY.fullmatch(quality) and any(c.isdigit() for c in quality)
    return _Range(
        "*/*" if media_type == "*" else media_type,
        min(float(quality), 1.0) if valid else 1.0,
        position,
    )
