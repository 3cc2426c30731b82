"""The definitions by small examples that are worked out by hand."""

from __future__ import annotations

import datetime as dt
from fractions import Fraction

import pytest

from tests.answers.figures import (
    former_stations,
    quantile,
    station_flows_hourly,
    station_hourly,
    station_service_levels,
    station_summary,
    station_usual,
)
from tests.answers.reference import HOUR, Coverage, Life, Snapshot, State, as_time, lived, microseconds

MIDNIGHT = dt.datetime(2024, 3, 30)  # noqa: DTZ001 - naive UTC, as in the tables
START = microseconds(MIDNIGHT)


def at(hours: float) -> dt.datetime:
    return MIDNIGHT + dt.timedelta(hours=hours)


def snapshot(hours: float, key: str = "", day: int = 0, **bikes: int | None) -> Snapshot:
    """A snapshot of stations with so many bikes and ten docks, in the folder of its day or of another."""
    time = at(hours)
    states = {name: State(count, None if count is None else 10 - count, 10) for name, count in bikes.items()}
    return Snapshot(key or f"{time}", time.date() + dt.timedelta(days=day), microseconds(time), states)


def life(*snapshots: Snapshot, known: list[tuple[float, float]], until: float = 0, zone: str = "Europe/Warsaw") -> Life:
    """Known from and until these hours; what lies between is not."""
    rows = [(at(since), at(end), True) for since, end in known]
    rows += [(rows[-1][1], at(until), False)] * (until > known[-1][1])
    return lived(snapshots, Coverage.of(rows), zone)


def hours(found: Life, column: str, table: object = station_hourly) -> dict[tuple[str, float], object]:
    """A column by station and hour since midnight."""
    return {(name, (hour - START) / HOUR): row[column] for (name, hour), row in table(found).items()}  # type: ignore[operator]


def test_a_state_lasts_until_the_next_snapshot_as_far_as_it_is_known() -> None:
    found = life(snapshot(0, a=4), snapshot(1.5, a=0), known=[(0, 0.5), (1, 2)])
    assert hours(found, "known_seconds") == {("a", 0): 1800, ("a", 1): 3600}
    assert hours(found, "unknown_seconds") == {("a", 0): 1800, ("a", 1): 0}
    assert hours(found, "mean_bikes") == {("a", 0): 4, ("a", 1): 2}
    assert hours(found, "empty_seconds") == {("a", 0): 0, ("a", 1): 1800}
    assert station_summary(found)["a"]["mean_bikes"] == Fraction(4 * 1800 + 4 * 1800, 5400)


def test_what_is_not_in_the_next_snapshot_is_absent_until_it_is_back() -> None:
    found = life(snapshot(0, a=1, b=2), snapshot(0.25, a=1), snapshot(0.5, a=1, b=5), known=[(0, 1)])
    assert hours(found, "known_seconds") == {("a", 0): 3600, ("b", 0): 2700}
    assert hours(found, "arrivals", station_flows_hourly) == {("a", 0): 0, ("b", 0): 0}


def test_an_empty_document_tells_nothing() -> None:
    found = life(snapshot(0, a=1), snapshot(0.5), snapshot(0.75, a=3), known=[(0, 1)])
    assert hours(found, "known_seconds") == {("a", 0): 3600}
    assert hours(found, "arrivals", station_flows_hourly) == {("a", 0): 2}
    assert former_stations(life(snapshot(0, a=1, b=1), snapshot(1, a=1), snapshot(2), known=[(0, 2)])) == {"b": at(0)}


def test_of_two_files_of_one_second_the_last_by_key_counts_and_misplaced_ones_do_not() -> None:
    found = life(snapshot(0, "a", a=9), snapshot(0, "b", a=1), snapshot(0.5, day=1, a=7), known=[(0, 1)])
    assert hours(found, "max_bikes") == {("a", 0): 1}
    assert hours(found, "observations") == {("a", 0): 1}


def test_a_day_without_a_snapshot_has_no_state() -> None:
    """From 22:00 to midnight, and after two days from 8:00 on, over a midnight with a snapshot on either side."""
    found = life(snapshot(22, a=1), snapshot(80, a=1), snapshot(97, a=3), known=[(22, 100)])
    assert station_summary(found)["a"]["known_seconds"] == (2 + 20) * 3600
    assert found.arrivals.total() == 2


def test_flows_are_counted_where_the_change_is_seen_and_only_without_a_break() -> None:
    times = {0.9: 5, 1: 3, 1.9: 4, 2.1: 9, 2.2: 8}
    snapshots = [snapshot(time, a=bikes) for time, bikes in times.items()]
    found = life(*snapshots, known=[(0, 2), (2.1, 2.5)])
    assert hours(found, "departures", station_flows_hourly) == {("a", 0): 0, ("a", 1): 2, ("a", 2): 1}
    assert hours(found, "arrivals", station_flows_hourly) == {("a", 0): 0, ("a", 1): 1, ("a", 2): 0}
    unchanged = life(*snapshots, known=[(0, 2), (2.05, 2.5)])  # a poll found what it was before
    assert hours(unchanged, "arrivals", station_flows_hourly)["a", 2] == 5
    unseen = life(snapshot(0.5, a=1), snapshot(1, a=2), known=[(0, 1)], until=2)
    assert hours(unseen, "net_change", station_flows_hourly) == {("a", 0): 0}


def test_unknown_bikes_are_no_state_of_bikes() -> None:
    found = life(snapshot(0, a=5), snapshot(0.25, a=None), snapshot(0.5, a=7), known=[(0, 1)])
    assert hours(found, "known_seconds") == {("a", 0): 2700}
    assert hours(found, "arrivals", station_flows_hourly) == {("a", 0): 0}


def test_an_episode_goes_over_hours_and_days_and_ends_where_nothing_is_known() -> None:
    """Empty from 22:00 to 25:30 and from 26:00 on, but for 15 minutes of which nothing is known."""
    found = life(snapshot(22, a=0), snapshot(25.5, a=2), snapshot(26, a=0), known=[(22, 26.25), (26.5, 27)])
    assert [((since - START) / HOUR, (until - START) / HOUR) for since, until in found.episodes("a", "empty")] == [
        (22, 25.5),
        (26, 26.25),
        (26.5, 27),
    ]
    days = {date.day: row for (_, (_, date, _)), row in station_service_levels(found, "day").items()}
    assert {day: (row["empty_seconds"], row["empty_seconds_at_most"]) for day, row in days.items()} == {
        30: (3600, 3600),
        31: (2.5 * 3600 + 2700, 2.5 * 3600 + 3600),
    }  # in Warsaw it is an hour later
    longest = {day: (row["empty_episodes"], row["longest_empty_seconds"]) for day, row in days.items()}
    assert longest == {30: (1, 12600), 31: (3, 12600)}
    (last,) = (
        row for (_, (_, _, hour)), row in station_service_levels(found, "hour").items() if hour == START + 26 * HOUR
    )
    assert (last["longest_empty_seconds"], last["longest_empty_seconds_at_most"]) == (1800, 3600)
    assert (last["full_episodes"], last["longest_full_seconds_at_most"]) == (0, 900)


@pytest.mark.parametrize(("day", "local_hours"), [("2024-03-31", 23), ("2024-10-27", 25), ("2024-10-28", 24)])
def test_local_days_have_23_24_or_25_hours(day: str, local_hours: int) -> None:
    midnight = microseconds(dt.datetime.fromisoformat(day)) - 3 * HOUR
    snapshots = [Snapshot(str(n), as_time(midnight + n * HOUR).date(), midnight + n * HOUR, {"a": State(n % 4, 1, 9)})
                 for n in range(32)]  # fmt: skip
    covered = [(as_time(midnight), as_time(midnight + 31 * HOUR), True)]
    found = lived(snapshots, Coverage.of(covered), "Europe/Warsaw")
    rows = [row for row in station_hourly(found).values() if row["local_date"] == dt.date.fromisoformat(day)]
    assert len(rows) == local_hours
    hours = [row["local_hour"] for row in rows]
    assert (hours.count(2), hours.count(3)) == {23: (0, 1), 25: (2, 1), 24: (1, 1)}[local_hours]


def test_usual_is_of_finished_local_days_and_weighted_by_time() -> None:
    """Nine o'clock on Saturdays in Warsaw, before and after the clocks change; the third Saturday is not over yet."""
    second, third = 7 * 24 - 1, 14 * 24 - 1
    found = life(
        snapshot(8, a=1), snapshot(8.5, a=6), snapshot(9, a=0), snapshot(second + 8, a=2), snapshot(third + 8, a=9),
        known=[(8, 9), (second + 8, second + 9), (third + 8, third + 9)],
    )  # fmt: skip
    ((key, usual),) = station_usual(found).items()
    assert (key, usual["p10"], usual["median"], usual["p90"]) == (("a", 6, 9), 1, 2, 6)
    assert (usual["known_seconds"], usual["days"]) == (7200, 2)
    late = life(snapshot(8, a=1), snapshot(57 * 24, a=1), known=[(8, 9), (57 * 24, 58 * 24)])
    assert {key[1] for key in station_usual(late)} == {7}  # neither the Saturday, 58 days ago, nor today


def test_a_quantile_is_the_smallest_count_that_reaches_the_share() -> None:
    values = {0: 10, 3: 40, 7: 50}
    assert [quantile(values, Fraction(share, 100)) for share in (1, 10, 11, 50, 51, 90)] == [0, 0, 3, 3, 7, 7]
