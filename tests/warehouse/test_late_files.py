"""Late, overwritten and misplaced files: the tables are at every moment what a warehouse built from nothing gives."""

from __future__ import annotations

import datetime as dt
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from bikeflow.core.layout import sealed_segment, segment_of
from bikeflow.core.model import Segment
from bikeflow.settings.sections import WarehouseSettings
from bikeflow.warehouse import Mirror, Warehouse
from tests.support.parquet import DAY, PARTITION, EnhancedLayer, Row, at, row
from tests.support.rounds import rounds
from tests.support.wrm import wrm_day
from tests.warehouse.conftest import Analytics, open_analytics
from tests.warehouse.test_warehouse import assert_published

RESULTS = (
    "station_summary",
    "main.open_station_changes",
    "data_quality",
    "coverage",
    "coverage_days",
    "main.current_rows",
    "station_hourly",
    "publication",
)
NEXT_DAY = DAY + dt.timedelta(days=1)
DAYS = [DAY - dt.timedelta(days=1), DAY, NEXT_DAY, DAY + dt.timedelta(days=3)]


async def rebuilt(analytics: Analytics, directory: Path) -> Analytics:
    """A warehouse built from nothing over the same lake."""
    warehouse = Warehouse(WarehouseSettings(), directory)
    found = Analytics(directory, analytics.layer, Mirror(analytics.layer.store, directory), warehouse)
    await found.refresh()
    warehouse.close()
    return found


async def assert_as_rebuilt(analytics: Analytics, directory: Path) -> None:
    """Not nearly, but exactly the same."""
    other = await rebuilt(analytics, directory)
    with analytics.reading(), other.reading():
        for name in RESULTS:
            columns = "* EXCLUDE (published_at, segments)" if name == "publication" else "*"
            query = f"SELECT {columns} FROM {name} ORDER BY ALL"
            assert analytics.query(query) == other.query(query), name


async def test_a_late_file_of_a_sealed_day_counts_as_if_it_had_come_in_time(
    analytics: Analytics, tmp_path: Path
) -> None:
    """A station that is empty until 8:25 and seen once in between, by a file that comes when the day is sealed."""
    for hour in (8, 20):
        await analytics.layer.put_hour(hour, row("1", at(hour), bikes=0), row("1", at(hour, 25), bikes=3))
    await analytics.layer.put_hour(1, row("1", at(1, day=NEXT_DAY)), day=NEXT_DAY)
    await analytics.layer.seal()
    await analytics.refresh()
    summary = "SELECT last_seen, known_seconds, round(share_empty * known_seconds) FROM station_summary"
    last_seen = at(1, day=NEXT_DAY).replace(tzinfo=None)
    assert analytics.query(summary) == [(last_seen, 2 * (1500 + 1800), 3000)]
    await analytics.layer.put_hour(8, row("1", at(8, 10), bikes=5))
    await analytics.refresh()
    assert analytics.query(summary) == [(last_seen, 2 * (1500 + 1800), 2100)]
    assert_published(analytics)
    await analytics.layer.put_hour(22, row("1", at(22), bikes=5))
    await analytics.refresh()
    assert analytics.query("SELECT date, longest_gap_seconds / 3600 FROM data_quality") == [
        (DAY, 11 + 5 / 60),
        (NEXT_DAY, 2.5),
    ]
    for hour in (2, 9, 10):
        await analytics.layer.put_hour(hour, row("1", at(hour, 5), bikes=0))
    await analytics.refresh()
    assert_published(analytics)
    await assert_as_rebuilt(analytics, tmp_path / "again")
    before = analytics.query("FROM station_summary")
    await analytics.layer.seal()
    await analytics.refresh()
    assert analytics.query("FROM station_summary") == before
    assert_published(analytics)


async def test_a_late_file_that_is_taken_away_again_leaves_nothing_behind(analytics: Analytics) -> None:
    await analytics.layer.put_hour(8, row("1", at(8)), row("1", at(8, 20)))
    await analytics.layer.seal()
    await analytics.refresh()
    before = analytics.query("FROM station_summary")
    await analytics.layer.put_hour(8, row("1", at(8, 10), bikes=0))
    await analytics.refresh()
    assert analytics.query("FROM station_summary") != before
    restarted = analytics.reopened()
    await restarted.layer.remove(segment_of(PARTITION, at(8), 60))
    await restarted.refresh()
    assert restarted.query("FROM station_summary") == before
    assert_published(restarted)
    restarted.warehouse.close()


@dataclass(frozen=True)
class Written:
    """A raw file appears, early or late, or is overwritten; `hours_off` says how far its name is from its folder."""

    day: int
    hour: int
    minute: int
    bikes: tuple[int, int]
    hours_off: int


@dataclass(frozen=True)
class Vanished:
    """A raw file vanishes."""

    day: int
    hour: int
    minute: int


@dataclass(frozen=True)
class Sealed:
    """A day is sealed, with what is late."""

    day: int


class Restarted:
    """The process ends, and another begins."""


HOURS, MINUTES, DAY_NUMBERS = st.sampled_from([0, 8, 9, 10, 22]), st.sampled_from([0, 10, 25, 59]), st.integers(0, 3)
BIKES = st.tuples(st.integers(-1, 3), st.integers(-1, 3))
STEPS = st.lists(
    st.one_of(
        *3 * [st.builds(Written, DAY_NUMBERS, HOURS, MINUTES, BIKES, st.sampled_from([0, 0, 0, 2, -24]))],
        st.builds(Vanished, DAY_NUMBERS, HOURS, MINUTES),
        *2 * [st.builds(Sealed, DAY_NUMBERS)],
        st.just(Restarted()),
    ),
    min_size=4,
    max_size=10,
)


def raw_rows(step: Written) -> list[Row]:
    """Two stations, each of which may be missing; three docks, and the real feed's one space of a full station."""
    day = DAYS[step.day]
    time = at(step.hour, step.minute, day=day) + dt.timedelta(hours=step.hours_off)
    key = f"bike-data/gen_info/raw/dt={day}/wrm_stations_{time:%Y-%m-%d_%H-%M-%S}.txt"
    own = {"date": day, "s3_source_key": key, "total_docks": 3}
    return [
        row(str(number), time, bikes=bikes, spaces=max(3 - bikes, 1), name=f"{bikes} bikes", **own)
        for number, bikes in enumerate(step.bikes)
        if bikes >= 0
    ]


class Archive:
    """Raw files by day, hour and minute, in the segments that bikeflow would write of them."""

    def __init__(self, layer: EnhancedLayer) -> None:
        self._layer = layer
        self._files: dict[tuple[int, int, int], list[Row]] = {}
        self._sealed: set[tuple[int, int, int]] = set()

    async def write(self, day: int, hour: int, minute: int, rows: list[Row]) -> None:
        """Write a raw file, or take it away where it has no rows: of a sealed day, too."""
        place = (day, hour, minute)
        self._files[place] = rows
        if place in self._sealed:
            await self._put(sealed_segment(wrm_day(DAYS[day])), [p for p in self._sealed if p[0] == day])
        else:
            late = [p for p in self._files.keys() - self._sealed if p[:2] == place[:2]]
            await self._put(segment_of(wrm_day(DAYS[day]), at(hour, day=DAYS[day]), 60), late)

    async def seal(self, day: int) -> None:
        """Let all files of a day lie in one segment."""
        places = [place for place in self._files if place[0] == day]
        for place in places:
            await self._put(segment_of(wrm_day(DAYS[day]), at(place[1], day=DAYS[day]), 60), [])
        self._sealed.update(places)
        await self._put(sealed_segment(wrm_day(DAYS[day])), places)

    async def _put(self, segment: Segment, places: list[tuple[int, int, int]]) -> None:
        rows = [item for place in sorted(places) for item in self._files[place]]
        if rows:
            await self._layer.put(segment, rows)
        elif segment in self._layer.segments:
            await self._layer.remove(segment)


@settings(max_examples=rounds(3, 12))
@given(STEPS)
async def test_whatever_order_files_come_in_the_tables_are_those_of_a_rebuilt_warehouse(
    steps: list[Written | Vanished | Sealed | Restarted],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with open_analytics(Path(directory, "data")) as analytics:
            archive = Archive(analytics.layer)
            for step in steps:
                match step:
                    case Written(day, hour, minute):
                        await archive.write(day, hour, minute, raw_rows(step))
                    case Vanished(day, hour, minute):
                        await archive.write(day, hour, minute, [])
                    case Sealed(day):
                        await archive.seal(day)
                    case Restarted():
                        analytics.warehouse.close()
                await analytics.refresh()
                assert_published(analytics)
            await assert_as_rebuilt(analytics, Path(directory, "again"))
