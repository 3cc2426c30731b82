"""The published tables about stations, held to the plain calculation column by column."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from tests.answers.figures import (
    former_stations,
    station_flows_hourly,
    station_hourly,
    station_summary,
    station_usual,
)
from tests.answers.lake import Lake
from tests.answers.reference import Life

Rows = Mapping[Any, Mapping[str, object]]


def assert_answers(lake: Lake) -> Life:
    """All tables hold what plain Python makes of the lake's raw files and polls."""
    life = lake.life()
    hour = "station_id, epoch_us(date + to_hours(hour))"
    _assert_same(lake, "station_hourly", hour, station_hourly(life))
    _assert_same(lake, "station_flows_hourly", hour, station_flows_hourly(life))
    _assert_same(lake, "station_summary", "station_id", {(key,): row for key, row in station_summary(life).items()})
    _assert_same(lake, "station_usual", "station_id, weekday, hour", station_usual(life))
    former = {(key,): {"last_seen": at} for key, at in former_stations(life).items()}
    _assert_same(lake, "former_stations", "station_id", former)
    return life


def _assert_same(lake: Lake, table: str, key: str, wanted: Rows) -> None:
    names = list(next(iter(wanted.values()), {}))
    keys = key.count(", ") + 1 - key.count("epoch_us(date, ")
    found = {row[:keys]: dict(zip(names, row[keys:], strict=True))
             for row in lake.query(f"SELECT {', '.join([key, *names])} FROM {table}")}  # fmt: skip
    assert found.keys() == wanted.keys(), f"{table}: {sorted(found.keys() ^ wanted.keys())[:5]}"
    wrong = [
        f"{table} {place} {name}: {found[place][name]}, not {value}"
        for place, row in wanted.items()
        for name, value in row.items()
        if not same(found[place][name], value)
    ]
    assert not wrong, "\n".join([f"{len(wrong)} differ", *wrong[:12]])


def same(found: Any, wanted: Any) -> bool:
    """Equal, but for the last digits of what is not whole."""
    if isinstance(wanted, Fraction) and isinstance(found, int | float):
        return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)
    return bool(found == wanted)
