from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from comfyui_stateless.metrics.numbers import Distribution, Spread, Tally


def test_a_tally_counts_by_labels_and_knows_some_from_the_beginning() -> None:
    tally = Tally([("a", "b")])
    assert tally.read() == {("a", "b"): 0}
    tally.add("a", "c")
    tally.add("a", "c", amount=2.5)
    assert tally.read() == {("a", "b"): 0, ("a", "c"): 3.5}


def test_what_was_read_does_not_change_later() -> None:
    tally, spread = Tally([()]), Distribution([1], [()])
    before = tally.read(), spread.read()
    tally.add()
    spread.add(1)
    assert before == ({(): 0}, {(): Spread((0, 0), 0)})


@pytest.mark.parametrize(
    ("value", "counts"),
    [(0, (1, 1, 1)), (1, (1, 1, 1)), (1.01, (0, 1, 1)), (5, (0, 1, 1)), (5.01, (0, 0, 1))],
)
def test_a_value_counts_for_every_bound_that_it_does_not_exceed(
    value: float, counts: tuple[int, ...]
) -> None:
    spread = Distribution([1, 5])
    spread.add(value, "x")
    assert spread.read() == {("x",): Spread(counts, value)}


def test_no_count_is_lost_between_threads() -> None:
    tally, spread = Tally(), Distribution([1])

    def count(_: int) -> None:
        for _ in range(2000):
            tally.add("x")
            spread.add(1)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(count, range(8)))
    assert tally.read() == {("x",): 16000}
    assert spread.read() == {(): Spread((16000, 16000), 16000)}
