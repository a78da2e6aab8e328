from __future__ import annotations

from comfyui_stateless.launcher.backoff import Backoff


def waits(backoff: Backoff, *was_up_s: float) -> list[float]:
    return [backoff.next_s(seconds) for seconds in was_up_s]


def test_waits_double_up_to_a_limit() -> None:
    backoff = Backoff(first_s=1, most_s=5, draw=lambda: 1.0)
    assert waits(backoff, 0, 0, 0, 0, 0) == [1, 2, 4, 5, 5]


def test_a_life_that_lasted_begins_anew() -> None:
    backoff = Backoff(first_s=1, most_s=5, settled_s=60, draw=lambda: 1.0)
    assert waits(backoff, 0, 0, 59, 60, 0) == [1, 2, 4, 1, 2]


def test_chance_takes_up_to_half_of_a_wait() -> None:
    assert Backoff(first_s=1, draw=lambda: 0.0).next_s(0) == 0.5
    drawn = {Backoff(first_s=1).next_s(0) for _ in range(20)}
    assert len(drawn) > 1
    assert all(0.5 <= wait <= 1 for wait in drawn)


def test_however_many_ends_there_were_the_wait_stays_finite() -> None:
    backoff = Backoff(most_s=10, draw=lambda: 1.0)
    assert waits(backoff, *[0.0] * 5000)[-1] == 10
