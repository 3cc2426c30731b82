"""`bikeflow systems`: the configured systems, and how each is doing."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import duckdb
import typer

from bikeflow.cli.options import Given, Json, grouped
from bikeflow.cli.results import echo, echo_json
from bikeflow.core.model import UTC
from bikeflow.feeds import layout_of
from bikeflow.health.sentence import count, listed, span
from bikeflow.http.client import ask_systems
from bikeflow.http.status import stamp
from bikeflow.ledger import FILE_NAME, Ledger
from bikeflow.runtime.lock import holder
from bikeflow.settings import Settings
from bikeflow.settings.systems import System, public_url
from bikeflow.warehouse import published_path

STALE_INTERVALS, STALE_SECONDS = 3, 60.0
"""A system is stale whose last snapshot is older than this, unless a fetch has found it unchanged since."""
_ORDER = ("failing", "stale", "starting", "empty", "working")
_GOOD = ("stored", "duplicate", "not_modified")
_NOW = """
SELECT system_id, count(*) FILTER (WHERE record_type = 'station'), count(*) FILTER (WHERE record_type <> 'station'),
    max(file_timestamp)
FROM main.current_rows
GROUP BY ALL
"""
Worst = Annotated[bool, typer.Option("--worst", help="The worst first.")]
Limit = Annotated[
    int, typer.Option("--limit", min=0, metavar="N", help="Show so many at most, the worst of them; 0 shows all.")
]
Row = dict[str, Any]
Latest = tuple[int, int, dt.datetime]
"""Stations and vehicles of a newest snapshot, and its time."""


@grouped
def systems(given: Given, worst: Worst = False, limit: Limit = 40, as_json: Json = False) -> None:
    """List the configured systems, and how each is doing.

    It works whether the service runs or not: what a running service knows is added to what ledger and database hold.
    """
    settings = given.settings
    rows = _rows(settings)
    if worst or (not as_json and 0 < limit < len(rows)):
        rows.sort(key=lambda row: _ORDER.index(row["state"]))
    if as_json:
        echo_json(rows, indent=2)
        return
    shown = rows[:limit] if limit else rows
    for line in (_summary(rows), "", *_table(shown)):
        echo(line)
    if others := rows[len(shown) :]:
        fine = all(row["state"] == "working" for row in others)
        echo(f"and {len(others):,} more{' that are fine' if fine else '; --limit 0 shows all'}")


def _rows(settings: Settings) -> list[Row]:
    now = dt.datetime.now(UTC)
    live = {row["id"]: row for row in ask_systems(settings.data_dir) or ()}
    latest, lake = _latest(settings), _lake(settings, now)
    return [
        _row(system, live.get(system.id), latest.get(system.id), lake.get(system.id, {}), now)
        for system in settings.all_systems
    ]


def _row(system: System, live: Row | None, latest: Latest | None, lake: Row, now: dt.datetime) -> Row:
    stations, vehicles, published = latest or (None, None, None)
    snapshot = max((at for at in (lake.get("snapshot"), published) if at is not None), default=None)
    fetch = live and live["last_fetch"]
    known = [at for at in (snapshot, _good_at(fetch)) if at is not None]
    row = {
        "id": system.id,
        "name": system.name,
        "format": system.format,
        "url": public_url(system.feed.url),
        "interval_seconds": system.feed.interval_seconds,
        "last_snapshot": snapshot and stamp(snapshot),
        "last_snapshot_age_seconds": snapshot and round((now - snapshot).total_seconds()),
        "last_fetch": fetch,
        "stations": stations,
        "vehicles": vehicles,
        "snapshots_today": lake.get("raw_files", 0),
        "rows_today": lake.get("rows", 0),
        "rejected_today": lake.get("rejected", 0),
        "reason": live and live["reason"],
        "since": live and live["since"],
    }
    return {**row, "state": _state(system, live, max(known, default=None), now)}


def _state(system: System, live: Row | None, known_at: dt.datetime | None, now: dt.datetime) -> str:
    if live is not None and live["state"] != "working":
        return str(live["state"])
    if known_at is None:
        return "empty"
    limit = max(STALE_INTERVALS * system.feed.interval_seconds, STALE_SECONDS)
    return "stale" if (now - known_at).total_seconds() > limit else "working"


def _good_at(fetch: Row | None) -> dt.datetime | None:
    return dt.datetime.fromisoformat(fetch["at"]) if fetch and fetch["outcome"] in _GOOD else None


def _lake(settings: Settings, now: dt.datetime) -> dict[str, Row]:
    """Of each system, its last snapshot and what today has brought, as the ledger knows."""
    if not (settings.data_dir / FILE_NAME).exists():
        return {}
    layouts, minutes = [layout_of(system) for system in settings.all_systems], settings.processing.segment_minutes
    at_rest = holder(settings.data_dir) is None
    found: dict[str, Row] = {}
    with Ledger(settings.data_dir, layouts, minutes, read_only=True, at_rest=at_rest) as ledger:
        for system_id, index in ledger.systems.items():
            state = index.fetch_state()
            found[system_id] = {**index.files.totals(now.date(), now.date()), "snapshot": state and state.fetched_at}
    return found


def _latest(settings: Settings) -> Mapping[str, Latest]:
    """The newest snapshot of each system in the published database; empty where there is none."""
    path = published_path(settings.warehouse, settings.data_dir)
    if not path.exists():
        return {}
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            rows = connection.execute(_NOW).fetchall()
    except duckdb.Error:  # just being replaced, or damaged: `bikeflow status` tells
        return {}
    return {name: (stations, vehicles, at.replace(tzinfo=UTC)) for name, stations, vehicles, at in rows}


def _summary(rows: Sequence[Row]) -> str:
    """Such as `1,520 systems: 38 failing, 2 stale and 1,480 working.`"""
    counted = Counter(row["state"] for row in rows)
    states = listed([f"{counted[state]:,} {state}" for state in _ORDER if counted[state]])
    return f"{count(len(rows), 'system')}: {states}."


def _table(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each system, its columns as wide as they need to be."""
    lines = [("id", "format", "every", "last snapshot", "stations", "vehicles", "rows today", "state"),
             *(_cells(row) for row in rows)]  # fmt: skip
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        cells = [
            cell.rjust(width) if column in (4, 5, 6) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _cells(row: Row) -> tuple[str, ...]:
    age = row["last_snapshot_age_seconds"]
    state = row["state"] if not row["reason"] else f"{row['state']}: {row['reason']}"
    return (
        row["id"],
        row["format"],
        f"{row['interval_seconds']:g} s",
        "none yet" if age is None else f"{span(dt.timedelta(seconds=age))} ago",
        *("" if row[name] is None else f"{row[name]:,}" for name in ("stations", "vehicles", "rows_today")),
        state,
    )
