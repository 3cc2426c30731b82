"""All lanes share a number of LISTs a minute."""

from __future__ import annotations

import time

import pytest

from bikeflow.lake.listings import Listings
from bikeflow.settings import Settings
from bikeflow.settings.sections import StorageSettings, SystemSettings, WatcherSettings
from tests.support.road import Road

PREFIX = "bike-data/"


async def listed(listings: Listings, road: Road, count: int) -> float:
    """Seconds that so many LISTs take."""
    began = time.monotonic()
    for _ in range(count):
        assert [page async for page in listings.pages(road.store, PREFIX)] == []
    return time.monotonic() - began


@pytest.mark.parametrize("storage", [StorageSettings()], ids=["local"])
async def test_a_minutes_worth_comes_at_once_and_the_rest_in_turn(road: Road) -> None:
    listings = Listings(WatcherSettings(lists_per_minute=120), 5)
    at_once = await listed(listings, road, 100)
    assert at_once + await listed(listings, road, 24) >= 1.0  # of which 120 are the minute's, and the rest every 0.5 s


@pytest.mark.parametrize(
    ("systems", "seconds"), [(1, 5), (25, 5), (100, 20), (1500, 300)], ids=lambda value: f"{value}"
)
def test_lanes_look_less_often_where_there_are_many(systems: int, seconds: float) -> None:
    tables = tuple(SystemSettings(id=f"s{number}", url="http://feed.example/") for number in range(systems))
    assert Settings(systems=tables).look_seconds == seconds
