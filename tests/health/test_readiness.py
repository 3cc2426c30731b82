"""The rules of readiness: what the roles tell, and how long each part may be silent."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bikeflow.core.model import (
    UTC,
    DatabasePublished,
    Event,
    Fault,
    FetchFinished,
    FetchOutcome,
    LaneVitals,
    Outcome,
    Run,
    RunFinished,
    Segment,
    SegmentWritten,
    Vitals,
)
from bikeflow.health.observations import Observations
from bikeflow.health.readiness import STALLED_SECONDS, Verdict, assess, state_of, verdict_document
from bikeflow.health.sentence import sentence, span, status_line
from bikeflow.settings import Settings
from tests.support.wrm import wrm_day

DAY = wrm_day(dt.date(2025, 6, 1))
FETCH_SECONDS, POLL_SECONDS, REFRESH_SECONDS = 140, 15, 60.1
"""How long each part may be silent, by the default settings."""
LANE = LaneVitals(feed=None, delivery=None, watcher=None, polled_at=None, spool_snapshots=0, spool_bytes=0)
HEALTHY = Vitals(lanes={"wrm": LANE}, refresher=None, queue_waiting=0, queue_in_flight=0, queue_stalled_seconds=0)


def now(seconds: float = 0) -> dt.datetime:
    return dt.datetime.now(UTC) + dt.timedelta(seconds=seconds)


def fetched(outcome: Outcome, error: str = "") -> FetchFinished:
    return FetchFinished("wrm", now(), FetchOutcome(outcome, "t", error=error))


def ran(outcome: Any, day: int = 1) -> RunFinished:
    at = wrm_day(dt.date(2025, 6, day))
    return RunFinished(Run("r", at, now(), now(), outcome, 1, 1, 1, 1, 0, "boom", ()), 0, {}, {})


def published(duration_seconds: float = 0.1) -> DatabasePublished:
    return DatabasePublished(now(), now(-5), 4096, 1, 1_234_567, 250, 90, traces=(), duration_seconds=duration_seconds)


SEGMENT = Segment(DAY, dt.time(0), dt.time(0, 59, 59))
PROCESSED = replace(ran("done"), written=(SegmentWritten(SEGMENT, None),))


class World:
    """A service that works, until the test tells otherwise."""

    def __init__(self, tmp_path: Path) -> None:
        self.database = tmp_path / "analytics.duckdb"
        self.database.touch()
        self.settings = Settings()
        self.seen = Observations()
        self.vitals: Vitals | None = HEALTHY
        self.suffers(polled_at=now())
        self.tell(fetched("stored"), PROCESSED, published())

    def tell(self, *events: Event) -> None:
        for event in events:
            self.seen.observe(event)

    def suffers(self, **changes: Any) -> None:
        """Change some of the vitals: those of the lane, and those that all lanes share."""
        assert self.vitals is not None
        own = {name: changes.pop(name) for name in LaneVitals.__slots__ if name in changes}
        lanes = {system_id: replace(lane, **own) for system_id, lane in self.vitals.lanes.items()}
        self.vitals = replace(self.vitals, lanes=lanes, **changes)

    def verdict(self, later_seconds: float = 0) -> Verdict:
        return assess(self.seen, self.vitals, self.settings, self.database, now(later_seconds))

    def broken(self, later_seconds: float = 0) -> dict[str, str]:
        return {name: fault.reason for name, fault in self.verdict(later_seconds).items() if fault}

    def sentence(self, *, stale: bool = False) -> str:
        verdict = self.verdict()
        return sentence(verdict, self.vitals, self.seen, now(), stale=stale)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_service_that_works_is_ready(world: World) -> None:
    assert world.broken() == {}
    assert state_of(world.seen, world.verdict()) == "working"
    assert world.sentence() == "All works: the newest snapshot is 5 s old, 1,234,567 rows are published, nothing waits."


@pytest.mark.parametrize(
    ("vital", "part", "trouble"),
    [
        ("feed", "fetching", "no new snapshots come in"),
        ("delivery", "storing", "snapshots can't be stored"),
        ("watcher", "watching", "the store can't be listed"),
        ("clock", "clock", "the clock is wrong"),
        ("missing", "archive", "raw files are missing from the store"),
        ("unspooled", "fetching", "no new snapshots come in"),
        ("refresher", "refreshing", "the database is not refreshed"),
    ],
)
def test_what_a_role_tells_of_is_what_does_not_work(world: World, vital: str, part: str, trouble: str) -> None:
    world.suffers(**{vital: Fault(now(-180), "it hurts")}, spool_snapshots=4)
    assert world.broken() == {part: "it hurts"}
    assert state_of(world.seen, world.verdict()) == "failing"
    assert world.sentence().startswith(f"Not working for 3 min: {trouble}; the newest snapshot is 5 s old")
    assert world.sentence().endswith("waiting: 4 snapshots for the store.")


def test_snapshots_that_wait_for_long_are_told_although_each_gets_there(world: World) -> None:
    world.suffers(spool_snapshots=59, spool_oldest_seconds=179.0)
    assert "storing" not in world.broken()
    world.suffers(spool_oldest_seconds=181.0)
    assert world.broken()["storing"] == "59 snapshots wait for the store, the oldest since then"


def test_a_snapshot_that_cannot_be_kept_is_a_fault_until_one_can(world: World) -> None:
    world.tell(fetched("lost", "the spool is full"), fetched("failed", "503"))
    assert world.broken() == {"fetching": "the spool is full"}
    world.tell(fetched("duplicate"))
    assert world.broken() == {}


@pytest.mark.parametrize(
    ("seconds", "part"),
    [(FETCH_SECONDS, "fetching"), (POLL_SECONDS, "watching")],
)
def test_silence_for_longer_than_an_interval_explains_is_a_fault(world: World, seconds: float, part: str) -> None:
    assert part not in world.broken(seconds - 1)
    assert part in world.broken(seconds + 1)


def test_the_limits_follow_the_configured_intervals(world: World) -> None:
    world.settings = Settings.model_validate({"feed": {"interval_seconds": 5, "timeout_seconds": 3}})
    world.tell(PROCESSED)
    assert world.broken(9).keys() == set()
    assert world.broken(12).keys() == {"refreshing"}
    assert world.broken(14).keys() == {"refreshing", "fetching"}


def test_a_full_queue_that_holds_back_the_watcher_is_no_fault(world: World) -> None:
    world.suffers(queue_full=True)
    assert "watching" not in world.broken(POLL_SECONDS + 1)
    assert world.vitals is not None
    late = replace(LANE, polled_at=now())
    world.vitals = replace(world.vitals, lanes={**world.vitals.lanes, "other": late})
    told = world.broken(POLL_SECONDS + 1)["watching"]
    assert told == "other: the store has not been looked at since", "the full room of one excuses no other"


def test_partitions_are_at_fault_until_a_run_of_theirs_succeeds(world: World) -> None:
    world.tell(ran("failed", 1), ran("failed", 2), ran("done", 3))
    since = world.seen.failing[DAY].since
    assert world.broken() == {"processing": "partition wrm 2025-06-01: boom (and 1 more)"}
    world.tell(ran("failed", 1), ran("done", 2))
    assert world.broken() == {"processing": "partition wrm 2025-06-01: boom"}
    assert world.seen.failing[DAY].since == since
    world.tell(ran("done", 1))
    assert world.broken() == {}


def test_jobs_none_of_which_ends_are_a_fault(world: World) -> None:
    world.suffers(queue_waiting=3, queue_in_flight=2, queue_stalled_seconds=STALLED_SECONDS + 1)
    assert world.broken() == {"processing": "none of 5 jobs has ended since"}


def test_a_database_that_stays_behind_is_a_fault(world: World) -> None:
    world.tell(PROCESSED)
    assert world.broken() == {}
    assert "refreshing" in world.broken(REFRESH_SECONDS + 1)
    world.tell(published(duration_seconds=60))  # it began before that was processed, so another refresh must follow
    assert "refreshing" in world.broken(REFRESH_SECONDS + 1)
    world.tell(published(duration_seconds=0))
    assert "refreshing" not in world.broken(REFRESH_SECONDS + 1)


def test_a_database_that_somebody_removed_is_a_fault(world: World) -> None:
    world.database.unlink()
    assert "is gone" in world.broken()["refreshing"]


def test_at_first_nothing_is_ready_and_that_is_called_starting(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.seen, world.vitals = Observations(), None
    assert set(world.broken().values()) == {"the service is starting"}
    assert state_of(world.seen, world.verdict()) == "starting"
    assert world.sentence() == "Starting: the service is starting; no snapshot is published yet, nothing waits."
    world.vitals = HEALTHY
    assert set(world.broken()) == {"fetching", "watching", "refreshing"}
    assert state_of(world.seen, world.verdict()) == "starting"
    world.suffers(feed=Fault(now(), "503"))
    assert state_of(world.seen, world.verdict()) == "failing"
    assert world.sentence().startswith("Not working for 0 s: no new snapshots come in; ")


def test_what_has_not_happened_yet_is_told_apart_from_what_fails_in_the_first_second() -> None:
    start = dt.datetime(2025, 6, 1, 12, tzinfo=UTC)
    verdict = {"watching": Fault(start, "not yet"), "fetching": Fault(start + dt.timedelta(milliseconds=3), "503")}
    told = verdict_document(verdict, start)
    assert told["watching"]["since"] == told["fetching"]["since"]
    assert (told["watching"].get("starting"), told["fetching"].get("starting")) == (True, None)


def test_the_sentence_is_for_people_and_says_what_fails_without_what_a_client_says(world: World) -> None:
    refused = Fault(now(-7200), "Cannot connect to host s3.example:443 ssl:default [Errno 111]")
    world.suffers(delivery=refused, watcher=refused)
    world.tell(ran("failed"))
    assert world.sentence().startswith(
        "Not working for 2 h: the store can't be reached and some snapshots can't be processed; the newest snapshot is "
    )


def test_the_sentence_does_not_call_all_well_while_the_data_is_old(world: World) -> None:
    at = dt.datetime(2025, 5, 31, 13, 50, 5, tzinfo=UTC)
    world.tell(replace(published(), newest_snapshot=at))
    days = (now() - at).days
    assert world.sentence(stale=True) == (
        f"All works, but nothing new comes in: the newest snapshot is {days} days old (31 May 2025, 13:50 UTC), "
        "1,234,567 rows are published, nothing waits."
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3725, "1 h 2 min"),
        (7205, "2 h"),
        (200_000, "2 d 7 h"),
        (47_171_000, "545 days"),
        (-5, "0 s"),
    ],
)
def test_spans_are_told_in_two_units_at_most(seconds: float, text: str) -> None:
    assert span(dt.timedelta(seconds=seconds)) == text


def test_the_status_line_tells_of_fetch_rows_lag_queue_rejected_lines_and_storage(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.seen.observe(RunFinished(Run("r", DAY, now(), now(), "done", 1, 1, 9, 7, 2, None, ()), 0, {}, {}))
    world.suffers(queue_waiting=2)
    verdict = world.verdict()
    line = status_line(verdict, world.vitals, world.seen, now())
    assert line == (
        "All works: the last fetch was 0 s ago (stored), the newest snapshot is 5 s old, 1,234,567 rows are published, "
        "waiting: 2 partitions for a processor, 2 lines rejected since the start, the storage works."
    )
    world.suffers(delivery=Fault(now(-60), "the store is away"))
    verdict = world.verdict()
    line = status_line(verdict, world.vitals, world.seen, now())
    assert line.startswith("Not working: storing (for 1 min: the store is away); the last fetch was ")
    assert line.endswith(", the storage fails.")
