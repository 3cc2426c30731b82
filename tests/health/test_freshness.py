"""What is stale, and what is not: old data is never called "now"."""

from __future__ import annotations

import datetime as dt

import pytest

from bikeflow.core.model import UTC, FetchFinished, FetchOutcome, Outcome
from bikeflow.health.health import freshness, stale_after_seconds
from bikeflow.health.observations import Observations
from bikeflow.settings import Settings

NOON = dt.datetime(2025, 6, 1, 12, tzinfo=UTC)
MINUTE = Settings.model_validate({"feed": {"interval_seconds": 60}, "alerts": {"frozen_seconds": 3600}})


def seen(*fetches: tuple[Outcome, float]) -> Observations:
    """What a service remembers of these fetches, each with the seconds after noon at which it ended."""
    observations = Observations()
    for outcome, seconds in fetches:
        observations.observe(FetchFinished("wrm", NOON + dt.timedelta(seconds=seconds), FetchOutcome(outcome, "t")))
    return observations


def stale(seconds: float, memory: Observations | None = None) -> bool:
    """Whether the snapshot of noon is stale that long after it."""
    return bool(freshness(NOON, MINUTE, memory, NOON + dt.timedelta(seconds=seconds))["stale"])


@pytest.mark.parametrize(("interval", "limit"), [(1, 60), (20, 60), (60, 180), (600, 1800)])
def test_data_is_stale_after_three_intervals_and_a_minute_at_least(interval: float, limit: float) -> None:
    assert stale_after_seconds(Settings.model_validate({"feed": {"interval_seconds": interval}})) == limit


def test_a_snapshot_grows_stale() -> None:
    assert (stale(0), stale(179), stale(181), stale(545 * 86_400)) == (False, False, True, True)


def test_a_snapshot_from_the_future_says_nothing_of_now() -> None:
    assert (stale(-179), stale(-181)) == (False, True)


def test_a_feed_that_was_found_unchanged_is_known_as_it_is() -> None:
    for unchanged in ("duplicate", "not_modified"):
        assert not stale(900, seen(("stored", 1), (unchanged, 800)))
        assert stale(1000, seen(("stored", 1), (unchanged, 800)))
    assert stale(900, seen(("stored", 1), ("failed", 800)))
    assert freshness(NOON, MINUTE, seen(("duplicate", 800)), NOON)["known_at"] == "2025-06-01T12:13:20Z"


def test_a_feed_that_was_unchanged_before_or_since_a_newer_snapshot_confirms_nothing() -> None:
    assert stale(900, seen(("duplicate", -10)))
    assert stale(900, seen(("stored", 400), ("duplicate", 800)))


def test_a_feed_that_gives_nothing_new_for_too_long_is_frozen_and_its_data_old() -> None:
    assert not stale(3700, seen(("duplicate", 3690)))
    assert stale(3800, seen(("duplicate", 3790)))


def test_without_a_snapshot_nothing_is_known() -> None:
    assert freshness(None, MINUTE, seen(("stored", 0)), NOON) == {
        "known_at": None, "stale": True, "stale_after_seconds": 180,
    }  # fmt: skip


def test_of_another_lake_nothing_is_remembered() -> None:
    memory = seen(("stored", 1), ("duplicate", 800))
    memory.forget_lake()
    assert stale(900, memory)
