"""The quick way (added rows) and the sure way (whole partitions) give the same tables, whatever happens."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bikeflow.core.errors import Transient
from bikeflow.core.layout import sealed_segment, segment_of
from bikeflow.polls.poll import Poll
from bikeflow.warehouse.moved import MOVED_ROWS
from bikeflow.warehouse.polls import NoPolls
from tests.support.parquet import DAY, Row, at, row, snapshot
from tests.support.wrm import wrm_day
from tests.warehouse.conftest import Analytics, open_analytics
from tests.warehouse.tables import assert_tables


async def test_a_later_snapshot_is_added_and_nothing_is_read(analytics: Analytics) -> None:
    await analytics.layer.put_hour(8, *snapshot(at(8), "1", "2"))
    await analytics.refresh(quick=True)
    await analytics.layer.put_hour(8, *snapshot(at(8), "1", "2"), *snapshot(at(8, 1), "1", "3", bikes=0))
    refresh = await analytics.refresh(quick=True)
    assert (refresh.read, refresh.added) == (0, 1)
    assert_tables(analytics, analytics.layer.rows)


async def test_the_first_snapshot_of_another_hour_is_added(analytics: Analytics) -> None:
    for hour in (8, 9, 11):
        await analytics.layer.put_hour(hour, *snapshot(at(hour), "1", "2", "fb1"))
        refresh = await analytics.refresh(quick=True)
        assert_tables(analytics, analytics.layer.rows)
    assert (refresh.read, refresh.added) == (0, 1)


async def test_the_first_snapshot_of_a_day_is_added_if_no_later_day_is_known(analytics: Analytics) -> None:
    added = []
    for days in (0, 2, 1):
        day = DAY + dt.timedelta(days=days)
        await analytics.layer.put_hour(8, *snapshot(at(8, day=day), "1", "2", "fb1"), day=day)
        added.append((await analytics.refresh(quick=True)).added)
        assert_tables(analytics, analytics.layer.rows)
    assert added == [1, 1, 0]


async def test_snapshots_that_came_since_the_last_refresh_are_added_together(analytics: Analytics) -> None:
    await analytics.layer.put_hour(8, *snapshot(at(8), "1"))
    await analytics.refresh(quick=True)
    rows = snapshot(at(8), "1")
    for minute in (1, 2, 3):
        rows += snapshot(at(8, minute), "1", "2", bikes=minute)
        await analytics.layer.put_hour(8, *rows)
    await analytics.layer.put_hour(9, *snapshot(at(9), "1"))
    assert (await analytics.refresh(quick=True)).added == 1
    assert_tables(analytics, analytics.layer.rows)


async def test_what_is_late_overwritten_or_gone_is_read(analytics: Analytics) -> None:
    await analytics.layer.put_hour(9, *snapshot(at(9), "1"))
    await analytics.refresh(quick=True)
    for late in (
        analytics.layer.put_hour(8, *snapshot(at(8), "1")),
        analytics.layer.put_hour(8, *snapshot(at(8), "1", bikes=3)),
        analytics.layer.remove(segment_of(wrm_day(DAY), at(8), 60)),
    ):
        await late
        assert (await analytics.refresh(quick=True)).added == 0
        assert_tables(analytics, analytics.layer.rows)


@dataclass(frozen=True)
class Written:
    """A raw file appears or is overwritten, with rows that may be older than it."""

    day: int
    hour: int
    minute: int
    stations: int
    bikes: int
    minutes_old: int


@dataclass(frozen=True)
class Vanished:
    """A raw file vanishes."""

    day: int
    hour: int
    minute: int


@dataclass(frozen=True)
class Sealed:
    """A day is over, or what came late to it is joined."""

    day: int


class Restarted:
    """The process ends, and another begins."""


DAYS, HOURS, MINUTES = st.integers(0, 1), st.sampled_from([0, 9, 23]), st.sampled_from([0, 1, 50, 59])
WRITTEN = st.builds(Written, DAYS, HOURS, MINUTES, st.integers(1, 3), st.integers(0, 2), st.sampled_from([0, 0, 2]))
STEPS = st.lists(
    st.tuples(
        st.one_of(WRITTEN, WRITTEN, WRITTEN, st.builds(Vanished, DAYS, HOURS, MINUTES), st.builds(Sealed, DAYS)),
        st.booleans(),
        st.sampled_from(["quick", "quick", "sure", "restart", "failure"]),
    ),
    max_size=8,
)


class Stumbling(NoPolls):
    """A record of polls that can't be read once."""

    stumbles = False

    def since(self, number: int) -> Mapping[int, Poll]:
        if self.stumbles:
            self.stumbles = False
            raise Transient("the record of polls can't be read")
        return super().since(number)


@pytest.mark.parametrize("days", [1, 2])
async def test_what_a_refresh_that_failed_has_left_is_done_by_the_next(tmp_path: Path, days: int) -> None:
    """It had read a sealed day again that is open now; the day after it, if there is one, begins with other states."""
    polls = Stumbling()
    async with open_analytics(tmp_path / "data", polls=polls) as analytics:
        for day in (DAY + dt.timedelta(days=number) for number in range(days)):
            await analytics.layer.put_hour(9, *snapshot(at(9, day=day), "1", "2"), day=day)
            await analytics.layer.put_hour(23, *snapshot(at(23, 50, day=day), "1", "2"), day=day)
            await analytics.layer.seal(day)
        await analytics.refresh()
        await analytics.layer.remove(sealed_segment(wrm_day(DAY)))
        await analytics.layer.put_hour(9, *snapshot(at(9), "1", "2"))
        await analytics.layer.put_hour(23, *snapshot(at(23, 50), "1", "2", bikes=0))
        polls.stumbles = True
        with pytest.raises(Transient):
            await analytics.refresh()
        await analytics.refresh()
        assert_tables(analytics, analytics.layer.rows)


class City:
    """Raw files by time, and the segments that they lie in."""

    def __init__(self, analytics: Analytics) -> None:
        self.analytics = analytics
        self.raw: dict[dt.datetime, list[Row]] = {}
        self.sealed: dict[dt.date, set[dt.datetime]] = {}

    async def step(self, step: Written | Vanished | Sealed) -> None:
        """Do it, and write the segments that change."""
        day = DAY + dt.timedelta(days=step.day)
        match step:
            case Written():
                time = at(step.hour, step.minute, day=day)
                rows = [row(str(n), time, bikes=step.bikes, spaces=2 - step.bikes) for n in range(step.stations)]
                for item in rows:
                    item["timestamp"] -= dt.timedelta(minutes=step.minutes_old)
                await self.put(time, rows)
            case Vanished():
                await self.put(at(step.hour, step.minute, day=day), [])
            case Sealed():
                await self.seal(day)

    async def put(self, time: dt.datetime, rows: list[Row]) -> None:
        """A raw file appears or is overwritten, or vanishes where it has no rows."""
        if rows:
            self.raw[time] = rows
        elif self.raw.pop(time, None) is None:
            return
        await self._write(time)

    async def seal(self, day: dt.date) -> None:
        """Join the segments of a day that has any."""
        mine = {time for time in self.raw if time.date() == day}
        if mine:
            await self.analytics.layer.seal(day)
            self.sealed[day] = mine

    async def _write(self, time: dt.datetime) -> None:
        day = time.date()
        joined = self.sealed.get(day, set())
        hour = segment_of(wrm_day(day), time, 60)
        in_sealed = time in joined or (day in self.sealed and hour.end == sealed_segment(wrm_day(day)).end)
        if in_sealed:
            joined.add(time)
            segment, times = sealed_segment(wrm_day(day)), joined
        else:
            segment = hour
            times = {other for other in self.raw if segment_of(wrm_day(other.date()), other, 60) == hour} - joined
        rows = [item for other in sorted(times) for item in self.raw.get(other, ())]
        if rows:
            await self.analytics.layer.put(segment, rows)
        elif any(item.segment == segment for item in self.analytics.layer.wanted):
            await self.analytics.layer.remove(segment)


ALONE, ONE_OF_MANY = ("wrm",), ("wrm", "another", "yet_another")
"""Where few of many systems change, only their rows are replaced in what is published."""


@settings(max_examples=25, deadline=None)
@given(STEPS, st.sampled_from([ALONE, ONE_OF_MANY]), st.sampled_from([1, 5, MOVED_ROWS]))
async def test_whatever_happens_both_ways_agree_with_plain_python(
    steps: list[tuple[Written | Vanished | Sealed, bool, str]], systems: tuple[str, ...], moved_rows: int
) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr("bikeflow.warehouse.moved.MOVED_ROWS", moved_rows)
        polls = Stumbling()
        async with open_analytics(Path(directory), systems=systems, polls=polls) as analytics:
            city = City(analytics)
            for step, at_once, way in steps:
                await city.step(step)
                if not at_once:
                    continue
                if way == "restart":
                    analytics.warehouse.close()
                if way == "failure":
                    polls.stumbles = True
                    with pytest.raises(Transient):
                        await analytics.refresh(quick=True)
                await analytics.refresh(quick=way == "quick")
                assert_tables(analytics, analytics.layer.rows)
