from __future__ import annotations

import pytest

from comfyui_stateless.board.positions import ALL_S, FRONT, FRONT_S, Positions

WAITING = 1000


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def queue(ended: int) -> dict[str, int]:
    """Return the positions of a thousand jobs, of which the first have ended."""
    return {f"run {n}": n - ended for n in range(ended, WAITING)}


def changes(before: dict[str, int], after: dict[str, int]) -> int:
    return sum(before[run] != place for run, place in after.items())


def test_when_jobs_end_few_positions_are_told_however_many_wait(clock: Clock) -> None:
    positions = Positions(clock)
    told, count = dict(positions.told(queue(0))), 0
    for ended in range(1, 9):
        clock.now += FRONT_S
        before, told = told, dict(positions.told(queue(ended)))
        count += changes(before, told)
    assert 0 < count <= 8 * FRONT


def test_between_two_tellings_no_position_changes(clock: Clock) -> None:
    positions = Positions(clock)
    told = dict(positions.told(queue(0)))
    clock.now += FRONT_S / 2
    assert changes(told, dict(positions.told(queue(300)))) == 0


def test_in_the_end_every_position_is_told(clock: Clock) -> None:
    positions = Positions(clock)
    positions.told(queue(0))
    clock.now += ALL_S
    assert positions.told(queue(300)) == queue(300)


def test_the_next_jobs_are_told_their_own_places_and_none_behind_is_put_before_them(
    clock: Clock,
) -> None:
    positions = Positions(clock)
    positions.told(queue(0))
    clock.now += FRONT_S
    now = queue(500)
    told = positions.told(now)
    front = {run for run, place in now.items() if place < FRONT}
    assert {run: told[run] for run in front} == {run: now[run] for run in front}
    assert min(place for run, place in told.items() if run not in front) >= FRONT


def test_a_new_job_is_told_its_own_place_at_once(clock: Clock) -> None:
    positions = Positions(clock)
    positions.told(queue(0))
    assert positions.told({**queue(400), "new": 600})["new"] == 600
