from __future__ import annotations

import pytest

from comfyui_stateless.errors import Unavailable
from comfyui_stateless.readiness import TROUBLE, Phase, Readiness, Verdict


def in_phase(phase: Phase) -> Readiness:
    readiness = Readiness()
    readiness.enter(phase)
    return readiness


def ready(
    readiness: Readiness, *, trouble: str | None = None, depth: int = 0, max_depth: int = 0
) -> Verdict:
    return readiness.ready(trouble=trouble, depth=depth, max_depth=max_depth)


@pytest.mark.parametrize(
    ("phase", "healthy", "is_ready"),
    [
        (Phase.STARTING, False, False),
        (Phase.WARMING, False, False),
        (Phase.READY, True, True),
        (Phase.DRAINING, True, False),
    ],
)
def test_each_phase_has_its_answers(phase: Phase, healthy: bool, is_ready: bool) -> None:
    readiness = in_phase(phase)
    assert readiness.health().ok is healthy
    assert ready(readiness).ok is is_ready
    assert (ready(readiness).reason is None) is is_ready


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.WARMING, Phase.DRAINING])
def test_work_is_let_in_only_when_ready(phase: Phase) -> None:
    in_phase(Phase.READY).require()
    with pytest.raises(Unavailable) as caught:
        in_phase(phase).require()
    assert caught.value.headers == {"Retry-After": "5"}


def test_a_failed_server_says_why_and_stays_failed() -> None:
    readiness = Readiness()
    readiness.fail("The warm-up failed.")
    readiness.enter(Phase.READY)
    assert readiness.health() == Verdict(False, "The warm-up failed.")
    assert ready(readiness) == Verdict(False, "The warm-up failed.")
    with pytest.raises(Unavailable, match="The warm-up failed"):
        readiness.require()


def test_trouble_in_comfyui_is_a_reason() -> None:
    assert ready(in_phase(Phase.READY), trouble="Dead.") == Verdict(False, "Dead.", TROUBLE)


@pytest.mark.parametrize(
    ("depth", "max_depth", "ok"), [(5, 0, True), (4, 5, True), (5, 5, False), (6, 5, False)]
)
def test_a_queue_at_its_limit_is_a_reason(depth: int, max_depth: int, ok: bool) -> None:
    assert ready(in_phase(Phase.READY), depth=depth, max_depth=max_depth).ok is ok
