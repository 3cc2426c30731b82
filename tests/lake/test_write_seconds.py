"""Open segments that wait to be written: published at once, written seldom, and in the end the same bytes."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from pathlib import Path

import pytest

from bikeflow.core.model import PartitionJob
from bikeflow.settings.sections import StorageSettings
from tests.support.lines import raw_file, station
from tests.support.road import Road, open_road
from tests.support.wrm import wrm_day

WAITS = 3_600.0
DAY = wrm_day(dt.date(2025, 6, 1))


def name(time: str) -> str:
    return f"dt=2025-06-01/wrm_stations_2025-06-01_{time}.txt"


def short(time: str) -> str:
    return name(time).split("/")[1]


def stations(count: int, rejected: int = 0) -> str:
    bad = (station(100 + number, bikes="many") for number in range(rejected))
    return raw_file(*(station(number) for number in range(count)), *bad)


async def written(road: Road) -> dict[str, str]:
    return {**await road.keys("processed/all/"), **await road.keys("enhanced/all/")}


async def test_a_snapshot_is_published_at_once_and_written_later(road: Road) -> None:
    road.index.files.unwritten.write_seconds = WAITS
    await road.put_raw(name("18-00-00"), stations(1))
    await road.process()
    first = await written(road)
    for rows in (2, 3):
        await road.put_raw(name(f"18-00-0{rows}"), stations(rows))
        (run,) = await road.process()
        assert (run.segments, run.files, run.rows, len(run.traces)) == (0, 1, rows, 1)
        assert await road.process() == []  # nothing is left to do
    assert await written(road) == first
    published = Counter({short("18-00-00"): 1, short("18-00-02"): 2, short("18-00-03"): 3})
    assert await road.published_rows() == published
    assert await road.row_counts() == Counter({short("18-00-00"): 1})

    road.index.files.unwritten.write_seconds = 0
    (run,) = await road.process()
    assert (run.segments, run.files, run.traces) == (1, 0, ())
    assert await road.row_counts() == await road.row_counts("processed") == await road.published_rows() == published
    assert (await road.verify()).findings == []


async def test_each_segment_is_written_at_once_when_it_begins(road: Road) -> None:
    road.index.files.unwritten.write_seconds = WAITS
    for time in ("18-00-00", "18-30-00", "19-00-00", "19-30-00"):
        await road.put_raw(name(time), stations(1))
        await road.process()
    assert await road.row_counts() == Counter([short("18-00-00"), short("19-00-00")])


async def test_what_a_killed_process_did_not_write_the_next_one_does(storage: StorageSettings, tmp_path: Path) -> None:
    async with open_road(storage, tmp_path) as road:
        road.index.files.unwritten.write_seconds = WAITS
        for second in range(3):
            await road.put_raw(name(f"18-00-0{second}"), stations(2, rejected=1))
            await road.process()
        assert await road.row_counts() == Counter({short("18-00-00"): 2})
    async with open_road(storage, tmp_path) as road:
        road.index.files.unwritten.write_seconds = WAITS
        await road.process()
        assert await road.row_counts() == Counter({short(f"18-00-0{second}"): 2 for second in range(3)})
        assert (await road.verify()).findings == []


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_meanwhile_the_files_end_up_as_without_waiting(road: Road, seed: int) -> None:
    rng = random.Random(seed)
    files, raw = road.index.files, road.layout.raw
    rows: dict[str, int] = {}

    async def put(time: str) -> None:
        rows[time] = rng.randrange(1, 6)
        await road.put_raw(name(time), stations(rows[time], rejected=rng.randrange(2)))

    for step in range(25):
        files.unwritten.write_seconds = rng.choice([WAITS, WAITS, WAITS, 0])
        match rng.choice(["new"] * 5 + ["late", "overwritten", "deleted", "letters lost", "backfill", "parquet lost"]):
            case "new":
                await put(f"{18 + step // 10}-{step:02}-00")
            case "late":
                await put(f"18-59-{step:02}")
            case "overwritten" if rows:
                await put(rng.choice(list(rows)))
            case "deleted" if rows:
                time = rng.choice(list(rows))
                del rows[time]
                await road.store.delete(f"{raw}{name(time)}")
            case "letters lost" if rows:
                files.process_again([f"{raw}{name(rng.choice(list(rows)))}"])
            case "backfill":
                files.write_again(DAY.day, DAY.day)
            case "parquet lost" if keys := await written(road):
                await road.store.delete(rng.choice(sorted(keys)))
        assert [run.error for run in await road.process() if run.error] == []
        published = Counter({short(time): count for time, count in rows.items()})
        assert await road.published_rows() == published
        assert set((await road.row_counts()).values()) <= set(range(6))  # no row is there twice
    files.unwritten.write_seconds = 0
    await road.process()
    assert (await road.verify()).findings == []
    found = {**await road.objects("processed/all/"), **await road.objects("enhanced/all/")}
    files.write_again(DAY.day, DAY.day)
    await road.processor.process(PartitionJob(DAY))
    assert {**await road.objects("processed/all/"), **await road.objects("enhanced/all/")} == found
