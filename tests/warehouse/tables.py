"""What a reader finds in the tables of the published database, beside what plain Python makes of the same rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from functools import partial
from typing import Any

from tests.answers.tables import assert_density, assert_hours
from tests.warehouse import expected
from tests.warehouse.conftest import Analytics
from tests.warehouse.expected import Row, same

SUMMARY = """name, lat, lon, total_docks, observations, first_seen, last_seen, mean_bikes, min_bikes, max_bikes,
             mean_occupancy, share_empty, share_full, known_seconds"""
QUALITY = """rows, station_rows, bike_rows, outside_service_area, over_capacity, future_timestamp, stale_timestamp,
             snapshots, future_snapshots, first_snapshot, last_snapshot, longest_gap_seconds"""
DENSITY = "bike_count, station_count, mobile_bike_count, density_per_1000m2, stations"
PUBLICATION = """newest_snapshot, future_snapshots, rows, stations, stations_outside, stations_empty, stations_full,
                 bikes, bikes_outside"""


def assert_tables(analytics: Analytics, rows: Iterable[Row], now: dt.datetime = expected.FOREVER) -> None:
    """All tables of results agree with `rows`; snapshots later than `now` are dated in the future."""
    with analytics.reading():
        _assert_tables(analytics, list(rows), now)


def _assert_tables(analytics: Analytics, rows: list[Row], now: dt.datetime) -> None:
    past = expected.counted(rows, now)
    covered = analytics.query("SELECT began_at, ended_at, known FROM coverage")
    life = expected.life(past, covered)
    assert_hours(partial(keyed, analytics), life)
    assert_same(
        keyed(analytics, f"SELECT station_id, {SUMMARY} FROM station_summary"), expected.station_summary(past, life)
    )
    assert_same(keyed(analytics, f"SELECT date, {QUALITY} FROM data_quality"), expected.data_quality(rows, now))
    assert_same(keyed(analytics, f"SELECT cell_id, {DENSITY} FROM bike_density"), expected.bike_density(past))
    assert_density(partial(keyed, analytics), expected.station_density_hourly(past, covered))
    assert analytics.query(f"SELECT {PUBLICATION} FROM publication") == [expected.publication(rows, now)]


def assert_same(found: dict[Any, Any], wanted: dict[Any, Any]) -> None:
    """The same keys with the same values, or the first that differ."""
    missing, unwanted = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    assert not missing | unwanted, (sorted(missing)[:3], sorted(unwanted)[:3])
    differing = {key: (found[key], wanted[key]) for key in found if not same(found[key], wanted[key])}
    assert not differing, dict(list(differing.items())[:3])


def keyed(analytics: Analytics, sql: str, keys: int = 1) -> dict[Any, tuple[Any, ...]]:
    """The rows of a query by their first columns, each of which must be there once."""
    rows = analytics.query(sql)
    found = {row[0] if keys == 1 else row[:keys]: row[keys:] for row in rows}
    assert len(found) == len(rows)
    return found
