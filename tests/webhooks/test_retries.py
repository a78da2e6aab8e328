from __future__ import annotations

from email.utils import formatdate

import pytest

from comfyui_stateless.webhooks.retries import MAX_RETRY_AFTER_S, Failure, delay_s, failure_of

NOW = 1_700_000_000.0


def middle(low: float, high: float) -> float:
    return (low + high) / 2


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_success_is_an_arrival(status: int) -> None:
    assert failure_of(status, {}, NOW) is None


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
def test_what_may_pass_is_tried_again(status: int) -> None:
    failure = failure_of(status, {}, NOW)
    assert failure is not None
    assert not failure.is_final
    assert str(status) in failure.reason


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 400, 401, 403, 404, 410, 413, 422])
def test_what_does_not_pass_is_final(status: int) -> None:
    failure = failure_of(status, {"Retry-After": "1"}, NOW)
    assert failure is not None
    assert failure.is_final


def test_retries_come_after_2_12_and_60_seconds_and_then_five_times_longer() -> None:
    delays = [delay_s(retry, Failure(""), middle) for retry in range(6)]
    assert delays == pytest.approx([2, 12, 60, 300, 1500, 7500])


def test_even_the_thousandth_retry_has_a_delay() -> None:
    assert delay_s(1000, Failure(""), middle) == 7 * 24 * 3600


def test_jitter_is_a_tenth_either_way() -> None:
    assert delay_s(1, Failure(""), min) == pytest.approx(10.8)
    assert delay_s(1, Failure(""), max) == pytest.approx(13.2)
    drawn = {delay_s(1, Failure("")) for _ in range(200)}
    assert len(drawn) > 100
    assert all(10.8 <= delay <= 13.2 for delay in drawn)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        (formatdate(NOW + 90, usegmt=True), 90),
        (formatdate(NOW - 90, usegmt=True), 0),
        ("999999999999999999999999", MAX_RETRY_AFTER_S),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER_S),
        ("Fri, 31 Dec 2020 23:59:59", 0),
        ("-5", 0),
        ("soon", 0),
        ("²", 0),
        ("Tue, 14 Nov -033 22:13:20 +999999999999", 0),
        ("", 0),
    ],
)
def test_retry_after_is_honoured_within_reason(value: str, seconds: float) -> None:
    failure = failure_of(503, {"Retry-After": value}, NOW)
    assert failure is not None
    assert failure.retry_after_s == pytest.approx(seconds)
    assert delay_s(0, failure, middle) == pytest.approx(max(2, seconds))
