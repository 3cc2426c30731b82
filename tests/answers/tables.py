"""The published tables about stations, held to the plain calculation column by column."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from tests.answers import figures
from tests.answers.reference import Life

HOUR_AT = "epoch_us(date + to_hours(hour))"
Rows = Mapping[Any, Mapping[str, object]]
Keyed = Callable[[str, int], dict[Any, tuple[Any, ...]]]
"""Gives the rows of a query by so many of their first columns."""


def assert_answers(keyed: Keyed, life: Life) -> None:
    """All tables about stations hold what plain Python knows of their life."""
    latest = {
        station: {"bikes": state.bikes, "spaces": state.spaces, "total_docks": state.docks}
        for station, state in life.latest.items()
    }
    former = {station: {"last_seen": at} for station, at in figures.former_stations(life).items()}
    assert_same(keyed, "stations_latest", ["station_id"], latest)
    assert_same(keyed, "former_stations", ["station_id"], former)
    assert_same(keyed, "station_summary", ["station_id"], figures.station_summary(life))
    assert_hours(keyed, life)
    key = ["station_id", "state", "epoch_us(began_at)"]
    episodes = figures.station_episodes(life)
    assert_same(keyed, "(FROM station_episodes WHERE state IN ('empty', 'full'))", key, episodes)
    levels = {
        (station, *period): row
        for kind in ("hour", "day", "week")
        for (station, period), row in figures.station_service_levels(life, kind).items()
    }
    key = ["station_id", "period", "local_date", "coalesce(epoch_us(hour_at), 0)"]
    assert_same(keyed, "station_service_levels", key, levels)
    assert_same(keyed, "station_usual", ["station_id", "local_weekday", "local_hour"], figures.station_usual(life))


def assert_hours(keyed: Keyed, life: Life) -> None:
    """The tables by hour do."""
    assert_same(keyed, "station_hourly", ["station_id", HOUR_AT], figures.station_hourly(life))
    assert_same(keyed, "station_flows_hourly", ["station_id", HOUR_AT], figures.station_flows_hourly(life))


def assert_density(keyed: Keyed, wanted: Rows) -> None:
    """The table of the grid's cells by hour does."""
    assert_same(keyed, "station_density_hourly", ["cell_id", HOUR_AT], wanted)


def assert_same(keyed: Keyed, table: str, key: list[str], wanted: Rows) -> None:
    """A table has the rows that are wanted, by their key; columns that are not wanted may hold anything."""
    names = list(next(iter(wanted.values()), {}))
    found = keyed(f"SELECT {', '.join([*key, *names])} FROM {table}", len(key))
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
