"""What counts as amiss: the conditions that no part tells of by itself."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from bikeflow.core.model import (
    UTC,
    Fault,
    FetchFinished,
    FetchOutcome,
    LaneVitals,
    Partition,
    Run,
    RunFinished,
    SchemaDrifted,
    Vitals,
)
from bikeflow.health.alerts.conditions import Conditions
from bikeflow.health.alerts.messages import Alert
from bikeflow.settings import Settings
from bikeflow.settings.sections import AlertsSettings, FeedSettings
from tests.support.wrm import wrm_day

LANE = LaneVitals(None, None, None, None, 0, 0)
WELL = Vitals({"wrm": LANE}, None, 0, 0, 0.0)
PARTS = ("fetching", "storing", "clock", "watching", "archive", "processing", "refreshing")
SETTINGS = Settings(data_dir=Path("data"), feed=FeedSettings(spool_max_bytes=1_000_000), alerts=AlertsSettings())
ROOM = 10**12


def amiss(
    conditions: Conditions,
    later: float = 0,
    vitals: Vitals = WELL,
    room: int = ROOM,
    parts: Mapping[str, Fault] = MappingProxyType({}),
) -> dict[Alert, str]:
    now = dt.datetime.now(UTC) + dt.timedelta(seconds=later)
    faults = conditions.faults(SETTINGS, dict.fromkeys(PARTS) | dict(parts), vitals, room, now)
    return {alert: fault.reason for alert, fault in faults.items() if fault is not None}


def filled(size: int) -> Vitals:
    """Nine snapshots of so many bytes in all wait for the store."""
    return dataclasses.replace(WELL, lanes={"wrm": dataclasses.replace(LANE, spool_snapshots=9, spool_bytes=size)})


def run(lines: int, rejected: int) -> RunFinished:
    now = dt.datetime.now(UTC)
    return RunFinished(
        Run("r", wrm_day(now.date()), now, now, "done", 1, 1, lines, lines - rejected, rejected, None, ()), 0, {}, {}
    )


def test_nothing_is_amiss_at_the_start() -> None:
    assert amiss(Conditions()) == {}


@pytest.mark.parametrize(("part", "alert"), [
    ("fetching", "feed_silent"), ("storing", "storage_unreachable"), ("watching", "storage_unreachable"),
    ("clock", "clock_wrong"), ("archive", "raw_files_missing"),
    ("processing", "runs_failing"), ("refreshing", "refresh_stuck"),
])  # fmt: skip
def test_a_part_that_does_not_work_is_amiss(part: str, alert: str) -> None:
    fault = Fault(dt.datetime.now(UTC), "for this reason")
    assert amiss(Conditions(), parts={part: fault}) == {alert: "for this reason"}


def test_a_feed_that_answers_but_gives_nothing_new_stands_still() -> None:
    conditions = Conditions()
    conditions.observe(FetchFinished("wrm", dt.datetime.now(UTC), FetchOutcome("duplicate", "t")))
    assert amiss(conditions, later=3_590) == {} and list(amiss(conditions, later=3_610)) == ["feed_frozen"]
    conditions.observe(FetchFinished("wrm", dt.datetime.now(UTC) + dt.timedelta(hours=1), FetchOutcome("stored", "t")))
    assert amiss(conditions, later=3_610) == {}


def test_a_silent_feed_is_not_called_frozen_as_well() -> None:
    assert list(amiss(Conditions(), later=9_999, parts={"fetching": Fault(dt.datetime.now(UTC), "down")})) == [
        "feed_silent"
    ]


def test_a_spool_beyond_its_share_is_filling() -> None:
    assert amiss(Conditions(), vitals=filled(500_000)) == {
        "spool_filling": "9 snapshots wait for the store: 50 % of feed.spool_max_bytes"
    }
    assert amiss(Conditions(), vitals=filled(490_000)) == {}


def test_rejected_lines_above_the_rate_within_an_hour() -> None:
    conditions = Conditions()
    conditions.observe(run(50, 50))
    assert amiss(conditions) == {}  # of too few lines to tell
    conditions.observe(run(950, 0))
    assert amiss(conditions) == {}  # 5 % are allowed
    conditions.observe(run(100, 6))
    assert "56 of 1,100 lines" in amiss(conditions)["dead_letters"]
    assert "dead_letters" not in amiss(conditions, later=3_700)


def test_a_disk_with_little_room() -> None:
    assert "1,023 MiB are free" in amiss(Conditions(), room=2**30 - 1)["disk_low"]
    assert amiss(Conditions(), room=2**30) == {}


def test_unknown_columns_count_for_an_hour() -> None:
    conditions = Conditions()
    conditions.observe(SchemaDrifted("wrm", ("colour", "price")))
    assert amiss(conditions) == {"schema_drift": "unknown columns: colour, price"}
    assert "schema_drift" not in amiss(conditions, later=3_610)


def test_the_time_of_a_fault_is_that_of_its_beginning() -> None:
    conditions, now = Conditions(), dt.datetime.now(UTC)
    faults = [
        conditions.faults(SETTINGS, dict.fromkeys(PARTS), WELL, 0, now + dt.timedelta(minutes=minutes))["disk_low"]
        for minutes in (0, 5)
    ]
    assert all(fault is not None and fault.since == now for fault in faults)


class TestTwoSystems:
    """What is amiss in one system is told with its name, and is not hidden by another that is well."""

    SETTINGS = Settings.model_validate(
        {
            "feed": {"spool_max_bytes": 10_000_000},
            "systems": [
                {"id": "small", "url": "http://h/1", "spool_max_bytes": 1_000_000, "interval_seconds": 3_600},
                {"id": "large", "url": "http://h/2"},
            ],
        }
    )

    def amiss(self, conditions: Conditions, later: float = 0, **small: object) -> dict[Alert, str]:
        lane = dataclasses.replace(LANE, **small)  # type: ignore[arg-type]
        vitals = dataclasses.replace(WELL, lanes={"small": lane, "large": LANE})
        now = dt.datetime.now(UTC) + dt.timedelta(seconds=later)
        faults = conditions.faults(self.SETTINGS, dict.fromkeys(PARTS), vitals, ROOM, now)
        return {alert: fault.reason for alert, fault in faults.items() if fault is not None}

    def test_a_feed_that_stands_still_beside_one_that_moves(self) -> None:
        conditions, now = Conditions(), dt.datetime.now(UTC)
        conditions.observe(FetchFinished("small", now + dt.timedelta(hours=2), FetchOutcome("stored", "t")))
        told = self.amiss(conditions, 3_610)["feed_frozen"]
        assert told.startswith("large: the feed has given nothing new since") and "small" not in told
        conditions.observe(FetchFinished("large", now + dt.timedelta(hours=4.5), FetchOutcome("stored", "t")))
        assert "feed_frozen" not in self.amiss(conditions, 5 * 3_600 - 10)  # three of its own long intervals
        assert self.amiss(conditions, 5 * 3_600 + 10)["feed_frozen"].startswith("small: ")
        silent = Fault(now, "down")
        assert "feed_frozen" not in self.amiss(conditions, 5 * 3_600 + 10, feed=silent)

    def test_a_spool_beyond_the_share_of_its_own_size(self) -> None:
        assert self.amiss(Conditions(), spool_snapshots=9, spool_bytes=500_000) == {
            "spool_filling": "small: 9 snapshots wait for the store: 50 % of feed.spool_max_bytes"
        }

    def test_a_small_system_all_of_whose_lines_are_rejected_beside_a_large_one(self) -> None:
        conditions, now = Conditions(), dt.datetime.now(UTC)
        for system_id, lines, rejected in (("large", 1_000_000, 0), ("small", 200, 200)):
            partition = Partition(system_id, now.date())
            done = Run("r", partition, now, now, "done", 1, 1, lines, lines - rejected, rejected, None, ())
            conditions.observe(RunFinished(done, 0, {}, {}))
        assert self.amiss(conditions)["dead_letters"].startswith("small: 200 of 200 lines")

    def test_unknown_columns_of_both(self) -> None:
        conditions = Conditions()
        for system_id in ("small", "large"):
            conditions.observe(SchemaDrifted(system_id, ("colour",)))
        assert self.amiss(conditions) == {
            "schema_drift": "small: unknown columns: colour; large: unknown columns: colour"
        }
