"""The published tables about stations, held to the plain calculation column by column."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from tests.answers import figures
from tests.answers.lake import Lake
from tests.answers.reference import Life

HOUR_AT = "epoch_us(date + to_hours(hour))"
Rows = Mapping[Any, Mapping[str, object]]


def assert_answers(lake: Lake) -> Life:
    """All tables hold what plain Python makes of the lake's raw files and polls; gives that."""
    life = lake.life()
    latest = {
        station: {"bikes": state.bikes, "spaces": state.spaces, "total_docks": state.docks}
        for station, state in life.latest.items()
    }
    former = {station: {"last_seen": at} for station, at in figures.former_stations(life).items()}
    assert_same(lake, "stations_latest", ["station_id"], latest)
    assert_same(lake, "former_stations", ["station_id"], former)
    assert_same(lake, "station_hourly", ["station_id", HOUR_AT], figures.station_hourly(life))
    assert_same(lake, "station_flows_hourly", ["station_id", HOUR_AT], figures.station_flows_hourly(life))
    assert_same(lake, "station_summary", ["station_id"], figures.station_summary(life))
    key = ["station_id", "state", "epoch_us(began_at)"]
    assert_same(lake, "(FROM station_episodes WHERE state IN ('empty', 'full'))", key, figures.station_episodes(life))
    for period in ("hour", "day", "week"):
        levels = {
            (station, date, hour): row
            for (station, (_, date, hour)), row in figures.station_service_levels(life, period).items()
        }
        key = ["station_id", "local_date", "coalesce(epoch_us(hour_at), 0)"]
        assert_same(lake, f"(FROM station_service_levels WHERE period = '{period}')", key, levels)
    assert_same(lake, "station_usual", ["station_id", "local_weekday", "local_hour"], figures.station_usual(life))
    return life


def assert_same(lake: Lake, table: str, key: list[str], wanted: Rows) -> None:
    """A table has the rows that are wanted, by their key; columns that are not wanted may hold anything."""
    names = list(next(iter(wanted.values()), {}))
    found = lake.keyed(f"SELECT {', '.join([*key, *names])} FROM {table}", len(key))
    differing = sorted(found.keys() ^ wanted.keys(), key=str)
    assert not differing, f"{table}: {len(differing)} too few or too many, {differing[:5]}, of {len(wanted)}"
    wrong = [
        f"{place} {name}: {value}, not {wanted[place][name]}"
        for place, values in found.items()
        for name, value in zip(names, values, strict=True)
        if not same(value, wanted[place][name])
    ]
    assert not wrong, "\n".join([f"{table}: {len(wrong)} of {len(names) * len(wanted)} differ", *wrong[:12]])


def same(found: Any, wanted: Any) -> bool:
    """Equal, but for the last digits of what is not whole."""
    if isinstance(wanted, Fraction) and isinstance(found, int | float):
        return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)
    return bool(found == wanted)
