"""The time that a server tells: believed where it moves on, and never where it may be that of an old answer."""

from __future__ import annotations

import datetime as dt

from bikeflow.ingest.clock import ClockWatch

NOON = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
URL = "http://127.0.0.1/feed"


def told(watch: ClockWatch, *answers: tuple[float, float, float]) -> str:
    """What is wrong after answers: steady seconds, the server's time and ours in seconds after noon."""
    for steady, server, own in answers:
        watch.note(URL, NOON + dt.timedelta(seconds=server), NOON + dt.timedelta(seconds=own), steady)
    return watch.fault.reason if watch.fault else ""


def test_an_old_answer_of_a_cache_says_nothing_of_the_clock() -> None:
    assert told(ClockWatch(URL, 300), *[(steady, -4_000, steady) for steady in range(0, 3_600, 60)]) == ""


def test_nor_does_one_that_is_renewed_once_an_hour() -> None:
    answers = [(steady, steady - steady % 3_600 - 10, steady) for steady in range(0, 20_000, 10)]
    assert told(ClockWatch(URL, 300), *answers) == ""


def test_a_clock_that_is_ahead_is_noticed_as_soon_as_the_servers_time_has_moved_on() -> None:
    watch = ClockWatch(URL, 300)
    assert told(watch, (0, 0, 4_000), (30, 30, 4_030)) == ""
    assert told(watch, (60, 60, 4_060)) == f"this machine's clock is 67 min ahead of that of the feed's server ({URL})"


def test_a_clock_that_jumps_is_noticed_and_so_is_its_return() -> None:
    watch = ClockWatch(URL, 300)
    assert told(watch, *[(60 * n, 60 * n, 60 * n) for n in range(5)]) == ""
    assert "40 days ahead" in told(watch, (300, 300, 300 + 40 * 86_400))
    assert told(watch, (360, 360, 360)) == ""


def test_a_clock_that_is_behind_is_noticed_at_once() -> None:
    assert "40 days behind" in told(ClockWatch(URL, 300), (0, 40 * 86_400, 0))


def test_a_small_difference_is_none_and_without_a_tolerance_nothing_is_compared() -> None:
    assert told(ClockWatch(URL, 300), (0, 290, 0), (60, 350, 60), (120, 410, 120)) == ""
    assert told(ClockWatch(URL, 0), (0, 9_999, 0)) == ""
