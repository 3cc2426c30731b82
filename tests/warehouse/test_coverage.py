"""Coverage: when the state of a system is known and when not, equals plain Python over polls and raw files."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bikeflow.core.model import FetchOutcome, Outcome
from bikeflow.polls import PollArchive, PollLog, Recorder
from bikeflow.polls.archive import copies_root
from bikeflow.settings.sections import StorageSettings, WarehouseSettings
from bikeflow.store import open_store
from bikeflow.warehouse import Mirror, Warehouse
from bikeflow.warehouse.moved import MOVED_ROWS
from tests.answers.tables import assert_answers
from tests.support.parquet import DAY, EnhancedLayer, at, row
from tests.support.wrm import wrm_layout
from tests.warehouse import expected
from tests.warehouse.conftest import Analytics
from tests.warehouse.tables import keyed

LAYOUT = wrm_layout("bike-data/gen_info/")
COVERAGE = "SELECT began_at, ended_at, known, reason, source FROM coverage ORDER BY began_at"
POLLS = "SELECT * FROM feed_polls ORDER BY due_at"


@dataclass
class Poller:
    """A system that is polled, in a time of its own; its analytics are those of the polls and raw files so far."""

    analytics: Analytics
    data_dir: Path
    now: dt.datetime = field(default_factory=lambda: at(0))
    interval_seconds: float = 60
    key: str = ""
    made: list[tuple[dt.datetime, str]] = field(default_factory=list)
    log: PollLog = field(init=False)

    def __post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.log = PollLog(self.data_dir)
        self.recorder = Recorder(self.log, "wrm", self.interval_seconds, LAYOUT.snapshot_time)
        self.archive = PollArchive(
            self.analytics.layer.store, LAYOUT, self.log, copies_root(self.data_dir), clock=lambda: self.now
        )
        warehouse = Warehouse(WarehouseSettings(), self.data_dir, polls=self.log)
        self.analytics.warehouse.close()
        self.analytics = Analytics(self.data_dir, self.analytics.layer, self.analytics.mirror, warehouse)

    def restart(self, interval_seconds: float = 60) -> None:
        """A new process on the same disk, after the one before was killed."""
        self.log.close()
        self.interval_seconds = interval_seconds
        self._begin()

    def lose_record(self) -> None:
        """The disk with the record is lost; the analytics are rebuilt from the lake."""
        self.log.close()
        for path in self.data_dir.glob("polls.sqlite*"):
            path.unlink()
        self._begin()

    async def poll(self, outcome: Outcome, *, seconds: float = 0.25, reason: str = "", record: bool = True) -> None:
        """A poll that is due now, and what it came to; the next one is due when this returns."""
        due_at, finished_at = self.now, self.now + dt.timedelta(seconds=seconds)
        await self.recorder.start(due_at, self.key)
        if outcome == "stored":
            taken_at = finished_at.replace(microsecond=0)
            self.key = LAYOUT.raw_key(taken_at)
            await self.raw_file(taken_at)
        if record:
            told = FetchOutcome(outcome, f"{len(self.made)}", self.key, reason=reason)
            await self.recorder.record(told, self.key if told.good else "", due_at, due_at, finished_at)
            self.made.append((due_at.replace(tzinfo=None), outcome))
        steps = 1 + int(seconds // self.interval_seconds)
        self.now = due_at + dt.timedelta(seconds=steps * self.interval_seconds)

    async def raw_file(self, taken_at: dt.datetime) -> None:
        """A snapshot is in the lake, whoever took it."""
        layer, day = self.analytics.layer, taken_at.date()
        hour = [one for one in layer.rows if one["date"] == day and one["file_timestamp"].hour == taken_at.hour]
        if all(one["file_timestamp"] != taken_at.replace(tzinfo=None) for one in hour):
            await layer.put_hour(taken_at.hour, *hour, *self._stations(taken_at), day=day)

    def _stations(self, taken_at: dt.datetime) -> list[dict[str, Any]]:
        """One station has some bikes, one is full or empty, one is away now and then."""
        number = round(taken_at.timestamp()) // 37
        bikes = {"1": number % 3, "2": 15 * (number // 5 % 2), "3": 7}
        return [
            row(station, taken_at, bikes=count, spaces=max(15 - count, 1))
            for station, count in bikes.items()
            if station != "3" or number % 7
        ]

    async def matches(self) -> list[tuple[Any, ...]]:
        """Publish; coverage must be what plain Python makes of the published polls and the raw files. Gives it."""
        await self.analytics.refresh(quick=True)
        told = self.analytics.query(COVERAGE)
        assert told == expected.coverage(self.polls(), self.analytics.layer.rows)
        life = expected.life(self.analytics.layer.rows, [interval[:3] for interval in told])
        assert_answers(partial(keyed, self.analytics), life)
        return told

    def polls(self) -> list[dict[str, Any]]:
        """The published polls, as dictionaries."""
        names = [name for (name,) in self.analytics.query("SELECT column_name FROM (DESCRIBE feed_polls)")]
        return [dict(zip(names, poll, strict=True)) for poll in self.analytics.query(POLLS)]


@pytest.fixture
async def poller(tmp_path: Path) -> AsyncIterator[Poller]:
    async with open_store(StorageSettings(), tmp_path) as store:
        mirror = Mirror(store, tmp_path)
        analytics = Analytics(tmp_path, EnhancedLayer(store, LAYOUT), mirror, Warehouse(WarehouseSettings(), tmp_path))
        poller = Poller(analytics, tmp_path)
        yield poller
        poller.analytics.warehouse.close()
        poller.log.close()


def hours(told: Iterable[tuple[Any, ...]]) -> list[tuple[float, float, str]]:
    """From and until in hours since the first day's midnight, and the reason or "known"; rounded to half a minute."""
    midnight = at(0).replace(tzinfo=None)

    def since(time: dt.datetime) -> float:
        return round((time - midnight).total_seconds() / 3600, 2)

    return [(since(began), since(ended), reason or "known") for began, ended, _, reason, _ in told]


async def test_unchanged_is_known_and_failures_are_not(poller: Poller) -> None:
    for outcome in ("stored", *59 * ["duplicate"], *60 * ["not_modified"], *60 * ["failed"], "duplicate", "duplicate"):
        await poller.poll(outcome, reason="timeout" if outcome == "failed" else "")  # type: ignore[arg-type]
    assert hours(await poller.matches()) == [(0, 2, "known"), (2, 3, "failed: timeout"), (3, 3.02, "known")]
    days = poller.analytics.query("SELECT known_seconds, unknown_seconds, longest_gap_seconds FROM data_quality")
    assert days == [(7200 + 60, 3600, 3600)]


async def test_a_gap_over_days_is_one_and_each_day_has_its_row(poller: Poller) -> None:
    for _ in range(3):
        await poller.poll("stored")
    poller.restart()
    poller.now = at(12, day=DAY + dt.timedelta(days=3))
    for _ in range(3):
        await poller.poll("stored")
    assert hours(await poller.matches()) == [
        (0, 0.05, "known"),
        (0.05, 84, "missed: not_running"),
        (84, 84.03, "known"),
    ]
    gap = 84 * 3600 - 180
    days = poller.analytics.query("SELECT date, snapshots, longest_gap_seconds FROM data_quality ORDER BY date")
    assert days == [(DAY + dt.timedelta(days=number), 3 if number in (0, 3) else 0, gap) for number in range(4)]
    assert poller.analytics.query("SELECT seconds, reasons FROM gaps") == [(gap, ["missed: not_running"])]


async def test_a_lost_record_is_made_up_for_by_raw_files(poller: Poller) -> None:
    for _ in range(10):
        await poller.poll("stored")
    await poller.archive.upload()
    for _ in range(50):
        await poller.poll("stored")
    poller.lose_record()
    poller.now += dt.timedelta(hours=1)
    for _ in range(3):
        await poller.poll("stored")
    await poller.archive.upload()
    told = await poller.matches()
    assert [entry[4] for entry in told] == ["polls", "raw files", "raw files", "polls"]
    assert hours(told) == [(0, 0.17, "known"), (0.17, 1.02, "known"), (1.02, 2, "no_snapshot"), (2, 2.03, "known")]


async def test_an_archive_without_polls_is_covered_by_its_raw_files(poller: Poller) -> None:
    for hour, minutes in ((1, range(0, 60, 10)), (2, range(0, 30, 10)), (23, range(0, 60, 10))):
        for minute in minutes:
            await poller.raw_file(at(hour, minute))
    await poller.raw_file(at(0, 5, day=DAY + dt.timedelta(days=1)))
    told = await poller.matches()
    assert [entry[2:] for entry in told] == [(True, None, "raw files"), (False, "no_snapshot", "raw files")] * 1 + [
        (True, None, "raw files")
    ]
    assert hours(told) == [(1, 2.67, "known"), (2.67, 23, "no_snapshot"), (23, 24.08, "known")]


OUTCOMES: tuple[Outcome, ...] = ("stored", "duplicate", "not_modified", "failed", "not_a_feed", "skipped_open_circuit")


async def happen(poller: Poller, chance: random.Random) -> None:
    """Something happens to the system or to its poller."""
    match chance.randrange(12):
        case 0:
            poller.now += dt.timedelta(minutes=chance.choice([1, 7, 300, 4000]))
            poller.restart(chance.choice([60, 60, 30, 300]))
        case 1:
            await poller.poll("stored", record=False)
            poller.restart(poller.interval_seconds)
        case 2 if chance.random() < 0.4:
            poller.now += dt.timedelta(minutes=chance.choice([3, 90]))
            poller.lose_record()
        case 3:
            await poller.archive.upload()
        case 4:
            await poller.raw_file(poller.now - dt.timedelta(seconds=chance.randrange(7000)))
        case 5:
            await poller.poll("duplicate", seconds=chance.choice([70, 200, 1000]))
        case 6:
            poller.now += dt.timedelta(minutes=chance.choice([0.1, 20]))  # the clock is set, or the machine slept
        case 7 if chance.random() < 0.5:
            await poller.matches()
        case _:
            for _ in range(chance.randrange(1, 12)):
                await poller.poll(chance.choice(OUTCOMES))


async def test_polls_that_lie_in_files_tell_what_others_do(poller: Poller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a file is lost, whose polls are then read from their record again, and where one poll is replaced."""
    monkeypatch.setattr("bikeflow.warehouse.moved.MOVED_ROWS", 1)
    outcomes: list[Outcome] = ["stored", "failed", "duplicate", "stored"]
    for outcome in outcomes:
        await poller.poll(outcome)
        await poller.analytics.refresh(quick=True)
    told = await poller.matches()
    polls = poller.polls()
    assert poller.analytics.query("SELECT count(*) FROM recent_polls") == [(1,)]
    next(poller.data_dir.glob("mirror/kept/*/moved/polls/*.parquet")).unlink()
    poller.analytics.warehouse.close()
    assert await poller.matches() == told
    assert poller.polls() == polls
    poller.now = at(0) + dt.timedelta(minutes=1)
    await poller.poll("stored")
    await poller.matches()
    assert [poll["outcome"] for poll in poller.polls()] == ["stored", "stored", "unchanged", "stored"]


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_it_equals_plain_python(
    poller: Poller, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures, slow polls, restarts, kills, lost disks, downtime, reloads, files of others; then from the lake."""
    monkeypatch.setattr("bikeflow.warehouse.moved.MOVED_ROWS", (MOVED_ROWS, 1)[seed % 2])
    chance = random.Random(seed)
    for taken in range(chance.randrange(5)):
        await poller.raw_file(poller.now + dt.timedelta(minutes=7 * taken))
    poller.now += dt.timedelta(hours=2)
    for _ in range(60):
        await happen(poller, chance)
    await poller.poll("stored")
    await poller.archive.upload()
    poller.now += dt.timedelta(days=2)
    await poller.archive.upload()
    told = await poller.matches()
    assert all(before[1] == after[0] for before, after in itertools.pairwise(told)), "no hole, no overlap"
    with closing(PollLog(tmp_path / "elsewhere")) as log:
        rebuilt = await rebuilt_from_lake(poller, log, tmp_path / "elsewhere")
        assert rebuilt.query(COVERAGE) == told
        assert len(rebuilt.query(POLLS)) == len(poller.polls())


async def rebuilt_from_lake(poller: Poller, log: PollLog, data_dir: Path) -> Analytics:
    """The analytics of another machine."""
    store = poller.analytics.layer.store
    await PollArchive(store, LAYOUT, log, copies_root(data_dir), clock=lambda: poller.now).sync()
    warehouse = Warehouse(WarehouseSettings(), data_dir, polls=log)
    rebuilt = Analytics(data_dir, poller.analytics.layer, Mirror(store, data_dir), warehouse)
    await rebuilt.refresh()
    await asyncio.to_thread(warehouse.close)
    return rebuilt
