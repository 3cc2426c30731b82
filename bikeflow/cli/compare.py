"""`bikeflow compare A B`: two sources of the same city, side by side."""

from __future__ import annotations

import datetime as dt
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Annotated, Any

import typer
from duckdb import DuckDBPyConnection

from bikeflow.cli.matching import Pair, Station, matched
from bikeflow.cli.options import Given, Json, chosen_systems, grouped
from bikeflow.cli.results import echo, echo_json
from bikeflow.cli.sources import connected
from bikeflow.core.errors import BikeflowError, ConfigError
from bikeflow.core.model import UTC
from bikeflow.health.sentence import listed, span

WINDOW_SECONDS = 1_800.0
"""A change that the other system shows later than this is taken for another one."""
EXAMPLES = 5
First = Annotated[str, typer.Argument(metavar="A", help="The id of a system.")]
Second = Annotated[str, typer.Argument(metavar="B", help="The id of another system of the same city.")]
Hours = Annotated[float, typer.Option("--hours", min=0.1, metavar="N", help="The time in which changes are compared.")]
Document = dict[str, Any]


@grouped
def compare(first: First, second: Second, given: Given, hours: Hours = 6, as_json: Json = False) -> None:
    """Compare two sources of the same city.

    It tells where they agree, which is fresher, and what only one has. Stations are matched by id, else name, else
    place. Which of the two sees changes first is taken from the history of the last hours; it is as exact as the
    intervals of both.
    """
    settings = given.settings
    for system_id in (first, second):
        chosen_systems(settings, system_id)
    if first == second:
        raise ConfigError(f"{first} is the same system twice")
    with connected(settings) as connection:
        found = compared(connection, first, second, hours, dt.datetime.now(UTC))
    if as_json:
        echo_json(found, indent=2)
    else:
        for line in _lines(found):
            echo(line)


def compared(connection: DuckDBPyConnection, first: str, second: str, hours: float, now: dt.datetime) -> Document:
    """What `--json` prints; raises BikeflowError where a system has nothing yet."""
    names = {"first": first, "second": second}
    totals = {row["system_id"]: row for row in _asked(connection, "compared_totals", names)}
    for system_id in (first, second):
        if system_id not in totals:
            raise BikeflowError(f"{system_id} has no snapshot in the database yet")
    stations: dict[str, list[Station]] = {first: [], second: []}
    reported: dict[str, list[float]] = {first: [], second: []}
    for row in _asked(connection, "compared_stations", names):
        station = Station(row["station_id"], row["name"], row["lat"], row["lon"], row["bikes"])
        stations[row["system_id"]].append(station)
        if row["reported_before_seconds"] is not None:
            reported[row["system_id"]].append(row["reported_before_seconds"])
    pairs = matched(stations[first], stations[second])
    return {
        "systems": [_system(totals[name], stations[name], reported[name], now) for name in (first, second)],
        "stations_in_both": len(pairs),
        "matched_by": dict(Counter(pair.by for pair in pairs)),
        "only_first": _others(stations[first], {pair.first.id for pair in pairs}),
        "only_second": _others(stations[second], {pair.second.id for pair in pairs}),
        "bikes": _agreement(pairs),
        "changes": _changes(connection, names, pairs, hours, now),
    }


def _asked(connection: DuckDBPyConnection, query: str, parameters: Mapping[str, object]) -> list[Document]:
    sql = resources.files("bikeflow.cli").joinpath("sql", f"{query}.sql").read_text(encoding="utf-8")
    result = connection.execute(sql, dict(parameters))
    columns = [column[0] for column in result.description]
    return [dict(zip(columns, row, strict=True)) for row in result.fetchall()]


def _system(row: Document, stations: Sequence[Station], reported: Sequence[float], now: dt.datetime) -> Document:
    newest = row["newest_snapshot"].replace(tzinfo=UTC)
    return {
        **row,
        "newest_snapshot": newest.isoformat(timespec="seconds"),
        "snapshot_age_seconds": round((now - newest).total_seconds()),
        # how old the stations' own reports were when the snapshot was taken
        "reported_before_seconds": round(statistics.median(reported), 1) if reported else None,
        "stations": len(stations),
    }


def _others(stations: Sequence[Station], taken: set[str]) -> list[Document]:
    """The stations that the other system does not have."""
    return [{"station_id": one.id, "name": one.name} for one in stations if one.id not in taken]


def _agreement(pairs: Sequence[Pair]) -> Document:
    """How the bikes at the same stations differ now (first minus second), where both tell them."""
    told = [(pair, pair.first.bikes - pair.second.bikes) for pair in pairs
            if pair.first.bikes is not None and pair.second.bikes is not None]  # fmt: skip
    sizes = [abs(difference) for _, difference in told]
    largest = sorted(told, key=lambda item: -abs(item[1]))[:EXAMPLES]
    return {
        "compared": len(told),
        "equal": sizes.count(0),
        "within_one": sum(size <= 1 for size in sizes),
        "mean_difference": round(statistics.fmean(sizes), 2) if sizes else None,
        "differences": {str(key): count for key, count in sorted(Counter(one for _, one in told).items())},
        "largest": [
            {"station_id": pair.first.id, "other_id": pair.second.id, "name": pair.first.name or pair.second.name,
             "bikes": [pair.first.bikes, pair.second.bikes]}
            for pair, difference in largest if difference
        ],
    }  # fmt: skip


def _changes(
    connection: DuckDBPyConnection, names: Mapping[str, str], pairs: Sequence[Pair], hours: float, now: dt.datetime
) -> Document:
    """Who saw the changes of the last hours, and who saw them first."""
    parameters = {
        **names,
        "ours": [pair.first.id for pair in pairs],
        "theirs": [pair.second.id for pair in pairs],
        "since": (now - dt.timedelta(hours=hours)).replace(tzinfo=None),
        "window_seconds": WINDOW_SECONDS,
    }
    (found,) = _asked(connection, "compared_changes", parameters)
    return {"hours": hours, **found}


def _lines(found: Document) -> Iterator[str]:
    """The comparison for people."""
    first, second = found["systems"]
    one, other = first["system_id"], second["system_id"]
    ways = listed([f"{count:,} by {by}" for by, count in found["matched_by"].items()] or ["none"])
    yield f"{found['stations_in_both']:,} stations are in both ({ways})\n"
    width = max(len(one), len(other), 16)
    yield f"{'':<20}  {one:>{width}}  {other:>{width}}"
    for title, key in (("stations", "stations"), ("bikes at stations", "bikes_at_stations"), ("vehicles", "vehicles")):
        yield f"{title:<20}  {_number(first[key]):>{width}}  {_number(second[key]):>{width}}"
    yield f"{'stations only here':<20}  {len(found['only_first']):>{width},}  {len(found['only_second']):>{width},}"
    for title, key in (
        ("newest snapshot", "snapshot_age_seconds"),
        ("reported before that", "reported_before_seconds"),
    ):
        cells = [f"{_span(system[key]):>{width}}" for system in (first, second)]
        yield f"{title:<20}  {'  '.join(cells)}"
    yield ""
    yield from _bikes(found["bikes"])
    yield from _freshness(found["changes"], one, other)
    for name, stations in ((one, found["only_first"]), (other, found["only_second"])):
        if stations:
            shown = [f"{item['name'] or 'no name'} ({item['station_id']})" for item in stations[:EXAMPLES]]
            more = f" and {len(stations) - EXAMPLES:,} more" if len(stations) > EXAMPLES else ""
            yield f"only in {name}: {', '.join(shown)}{more}"


def _bikes(bikes: Document) -> Iterator[str]:
    if not bikes["compared"]:
        yield "no station's bikes are told by both"
        return
    total = bikes["compared"]
    yield (
        f"bikes now, at {total:,} stations: {bikes['equal'] / total:.1%} equal, "
        f"{bikes['within_one'] / total:.1%} within one, {bikes['mean_difference']:g} apart in the mean"
    )
    for item in bikes["largest"]:
        yield f"  {item['name']} ({item['station_id']}): {item['bikes'][0]} and {item['bikes'][1]}"


def _freshness(changes: Document, one: str, other: str) -> Iterator[str]:
    both, later = changes["both_saw"], changes["second_later_seconds"]
    yield (
        f"changes in the last {changes['hours']:g} h: {changes['first_saw']:,} in {one}, {changes['second_saw']:,} in "
        f"{other}, {both:,} of them in both"
    )
    if not both:
        return
    if later == 0:
        yield "  both see them at the same time, in the median"
    else:
        yield f"  {one if later > 0 else other} sees them first, by {_span(abs(later))} in the median"
    yield (
        f"  sooner in {one}: {changes['first_sooner'] / both:.0%}, in {other}: {changes['second_sooner'] / both:.0%} "
        "(each sees no more than its interval lets it)"
    )


def _number(value: int | None) -> str:
    return "not told" if value is None else f"{value:,}"


def _span(seconds: float | None) -> str:
    return "not told" if seconds is None else span(dt.timedelta(seconds=seconds))
