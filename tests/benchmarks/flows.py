"""Departures and arrivals in `station_flows_hourly`, against the true trips of a replayed city.

`replay` is a folder with `raw/dt=…/`, a snapshot every 60 s, and `truth_trips.csv` and `truth_moves.csv`: what bikes
really did in between (`bike, start, end, from, to`; places are stations' names, or a position). Truth, and what counts
alone can tell of it at all, are computed from the exact times of these events.
"""

from __future__ import annotations

import csv
import datetime as dt
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import duckdb
from typer.testing import CliRunner

from bikeflow.cli.app import app
from tests.benchmarks.measuring import Row
from tests.support.service import configure

EVERY_SECONDS = (60, 120, 300, 600)
_FLOWS = """
SELECT name, date + to_hours(hour), departures, arrivals
FROM analytics.station_flows_hourly
JOIN analytics.station_summary USING (system_id, station_id)
WHERE departures IS NOT NULL
"""
Flows = Counter[tuple[str, dt.datetime, str]]
"""Bikes by station, hour (UTC), and whether they left or came."""


class Event(NamedTuple):
    """A bike leaves a station (-1), or comes to it (1)."""

    at: dt.datetime
    station: str
    step: int


def measure(folder: Path, replay: Path) -> dict[str, object]:
    """What share of the true departures and arrivals is seen, all in all and in each station and hour."""
    snapshots = sorted((replay / "raw").rglob("*.txt"))
    times = [_time(path) for path in (snapshots[0], snapshots[1], snapshots[-1])]
    first, every, last = times[0], times[1] - times[0], times[2]
    stations = _stations(snapshots[0])
    trips = [event for event in _events(replay / "truth_trips.csv", stations) if first < event.at <= last]
    moves = [event for event in _events(replay / "truth_moves.csv", stations) if first < event.at <= last]
    truth = _true([*trips, *moves])
    rows = [_compared("seen (station_flows_hourly)", _seen(folder, replay), truth, every)]
    for seconds in sorted({*EVERY_SECONDS, round(every.total_seconds())}):
        step = dt.timedelta(seconds=seconds)
        rows.append(_compared("bound of counts", _bound([*trips, *moves], first, step), truth, step))
    what = (
        f"departures and arrivals from counts, {first:%Y-%m-%d} to {last:%Y-%m-%d}: {len(trips):,} at stations by"
        f" trips, {len(moves):,} by relocations"
    )
    return {"what": what, "rows": rows}


def _time(path: Path) -> dt.datetime:
    return dt.datetime.strptime(f"{path.stem} +0000", "wrm_stations_%Y-%m-%d_%H-%M-%S %z")


def _stations(snapshot: Path) -> set[str]:
    with snapshot.open(encoding="utf-8", newline="") as file:
        return {row[2] for row in csv.reader(file) if row[0].isdecimal()}


def _events(path: Path, stations: set[str]) -> Iterator[Event]:
    with path.open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    for _, start, end, origin, destination in rows:
        if origin in stations:
            yield Event(dt.datetime.fromisoformat(start), origin, -1)
        if destination in stations:
            yield Event(dt.datetime.fromisoformat(end), destination, 1)


def _hour(at: dt.datetime) -> dt.datetime:
    return at.replace(minute=0, second=0, microsecond=0, tzinfo=None)


def _flow(station: str, at: dt.datetime, change: int) -> tuple[str, dt.datetime, str]:
    return station, _hour(at), "arrivals" if change > 0 else "departures"


def _true(events: Iterable[Event]) -> Flows:
    return Counter(_flow(event.station, event.at, event.step) for event in events)


def _bound(events: Iterable[Event], first: dt.datetime, every: dt.timedelta) -> Flows:
    """What counts show that are read every so often: of what happens in between at a station, the balance."""
    balances = Counter[tuple[str, dt.datetime]]()
    for event in events:
        number = -((first - event.at) // every)  # the first reading that is not earlier
        balances[event.station, first + number * every] += event.step
    seen: Flows = Counter()
    for (station, at), balance in balances.items():
        if balance:
            seen[_flow(station, at, balance)] += abs(balance)
    return seen


def _seen(folder: Path, replay: Path) -> Flows:
    """What bikeflow makes of the raw files, by the command."""
    for path in (replay / "raw").rglob("*.txt"):
        target = folder / "data/lake/bike-data/gen_info/raw" / path.relative_to(replay / "raw")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(path)
        except OSError:
            target.write_bytes(path.read_bytes())
    configure(folder / "config.toml", {"data_dir": folder / "data", "log.level": "error"})
    result = CliRunner().invoke(app, ["backfill", "--config", os.fspath(folder / "config.toml")])
    if result.exit_code:
        raise RuntimeError(result.output)
    seen: Flows = Counter()
    with duckdb.connect(folder / "data/analytics.duckdb", read_only=True) as reader:
        for name, hour, departures, arrivals in reader.execute(_FLOWS).fetchall():
            seen[name, hour, "departures"] += departures
            seen[name, hour, "arrivals"] += arrivals
    return seen


def _compared(what: str, seen: Flows, truth: Flows, every: dt.timedelta) -> Row:
    places = [place for place, count in truth.items() if count]
    row: Row = {"what": what, "every_s": round(every.total_seconds())}
    for kind in ("departures", "arrivals"):
        true = sum(count for place, count in truth.items() if place[2] == kind)
        found = sum(count for place, count in seen.items() if place[2] == kind)
        row |= {kind: found, f"true_{kind}": true, f"seen_{kind}_percent": round(100 * found / true, 2)}
    exact = sum(seen[place] == truth[place] for place in places)
    row["hours_exact_percent"] = round(100 * exact / len(places), 1)
    row["mean_miss"] = round(sum(abs(seen[place] - truth[place]) for place in {*seen, *truth}) / len(places), 3)
    return row
