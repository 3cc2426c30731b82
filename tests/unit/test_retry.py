from __future__ import annotations

import asyncio
import datetime as dt
import functools
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bikeflow.errors import NotFound, Permanent, Transient
from bikeflow.model import UTC
from bikeflow.retry import retry_after_seconds, retrying, tick
from bikeflow.settings.sections import RetrySettings

QUICK = RetrySettings(attempts=4, initial_seconds=0.001, max_seconds=0.002)
SLOW = RetrySettings(attempts=4, initial_seconds=60, max_seconds=60)
NOW = dt.datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Flaky:
    """Raises the given errors one after the other, then answers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self, answer: str = "done") -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return answer


class Waits(list[float]):
    """Remembers the waits that the policy announces, and can set an event at the first."""

    def __init__(self, then: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.then = then

    def __call__(self, _error: BaseException, _attempt: int, wait_seconds: float) -> None:
        self.append(wait_seconds)
        if self.then:
            asyncio.get_running_loop().call_later(0.02, self.then)


async def test_a_transient_failure_is_tried_again_until_it_works() -> None:
    flaky = Flaky(Transient("one"), Transient("two"))
    assert await retrying(QUICK)(flaky.__call__, "answer") == "answer"
    assert flaky.calls == 3


async def test_after_the_last_attempt_the_error_itself_is_raised() -> None:
    last = Transient("four")
    flaky = Flaky(Transient("one"), Transient("two"), Transient("three"), last, Transient("never"))
    with pytest.raises(Transient) as raised:
        await retrying(QUICK)(flaky.__call__)
    assert raised.value is last
    assert flaky.calls == QUICK.attempts


@pytest.mark.parametrize("error", [Permanent("no"), NotFound("none"), KeyError("bug"), asyncio.CancelledError()])
async def test_nothing_but_transient_errors_is_tried_again(error: BaseException) -> None:
    flaky = Flaky(error)
    with pytest.raises(type(error)) as raised:
        await retrying(QUICK)(flaky.__call__)
    assert raised.value is error
    assert flaky.calls == 1


async def test_a_stop_ends_a_long_wait_at_once_and_starts_no_further_attempt() -> None:
    stop = asyncio.Event()
    flaky = Flaky(Transient("down", retry_after_seconds=60), Transient("still down"))
    started = time.monotonic()
    with pytest.raises(Transient, match=r"^down$"):
        await retrying(SLOW, stop, on_retry=Waits(then=stop.set))(flaky.__call__)
    assert time.monotonic() - started < 50
    assert flaky.calls == 1


async def test_once_stopped_a_failure_is_final() -> None:
    stop, waits = asyncio.Event(), Waits()
    stop.set()
    with pytest.raises(Transient, match="down"):
        await retrying(SLOW, stop, on_retry=waits)(Flaky(Transient("down")).__call__)
    assert waits == []


async def test_the_wait_is_at_least_what_the_other_side_asked_for_but_an_hour_at_most() -> None:
    stop = asyncio.Event()
    for asked, least, most in ((90.0, 90.0, 90.0), (86_400.0, 3_600.0, 3_600.0), (0.0, 0.0, 60.0)):
        waits = Waits(then=stop.set)
        with pytest.raises(Transient):
            await retrying(SLOW, stop, on_retry=waits)(Flaky(Transient("busy", retry_after_seconds=asked)).__call__)
        stop.clear()
        assert least <= waits[0] <= most


async def test_the_bound_of_the_random_wait_doubles_up_to_its_maximum() -> None:
    settings = RetrySettings(attempts=6, initial_seconds=0.001, max_seconds=0.004)
    seen = []
    for _ in range(40):
        waits = Waits()
        await retrying(settings, on_retry=waits)(Flaky(*(Transient("x") for _ in range(5))).__call__)
        seen.append(waits)
    widest = [max(column) for column in zip(*seen, strict=True)]
    for wait, bound in zip(widest, (0.001, 0.002, 0.004, 0.004, 0.004), strict=True):
        assert bound / 2 < wait <= bound  # 40 draws all in the lower half: 1 in 10^12
    assert min(map(min, seen)) < 0.0005  # full jitter reaches down to nothing


async def test_each_retry_logs_one_line() -> None:
    with capture_logs() as lines:
        await retrying(QUICK)(functools.partial(Flaky(Transient("no answer")).__call__, "x"))
    assert 0 <= lines[0].pop("wait_seconds") <= QUICK.max_seconds
    assert lines == [{"event": "retrying", "log_level": "warning", "error": "no answer", "attempt": 1}]


async def test_tick_lasts_as_long_as_asked_and_says_that_it_was_not_stopped() -> None:
    started = time.monotonic()
    assert await tick(asyncio.Event(), 0.05) is False
    assert 0.045 <= time.monotonic() - started < 50


async def test_tick_ends_when_stopped() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, stop.set)
    async with asyncio.timeout(50):
        assert await tick(stop, 60) is True
        assert await tick(stop, 60) is True
        assert await tick(stop, 0) is True


async def test_tick_can_be_cancelled() -> None:
    task = asyncio.create_task(tick(asyncio.Event(), 60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0), (" 7 ", 7.0), ("0", 0.0), ("-5", 0.0), ("1.5", 1.5),
        ("Sun, 01 Mar 2026 12:01:30 GMT", 90.0), ("Sun, 01 Mar 2026 12:01:30 -0000", 90.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        (None, None), ("", None), ("soon", None), ("inf", None), ("nan", None),
        ("Sun, 01 Mar 2026 12:00:00 +9999999999999999", None), ("Sun, 01 Mar 99999 12:00:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_read_in_both_of_its_forms(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, NOW) == seconds


@given(st.text())
def test_a_retry_after_of_any_text_is_a_wait_or_nothing(header: str) -> None:
    seconds = retry_after_seconds(header, NOW)
    assert seconds is None or seconds >= 0
