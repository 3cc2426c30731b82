"""Raw files that disappear from the store: what was made of them stays, unless they are few or the operator says so."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from bikeflow.core.model import PartitionJob
from bikeflow.core.scope import Scope
from bikeflow.ledger import FILE_NAME
from bikeflow.settings.sections import StorageSettings
from tests.support.lines import raw_file, station
from tests.support.road import Road, open_road

DAY = dt.date(2025, 6, 1)
FILES = 13
"""More than are let go, in two segments."""


def name(minute: int, day: dt.date = DAY) -> str:
    at = dt.datetime.combine(day, dt.time(18)) + dt.timedelta(minutes=minute)
    return f"dt={day}/wrm_stations_{at:%Y-%m-%d_%H-%M-%S}.txt"


def text(minute: int) -> str:
    """A row and a rejected line."""
    return raw_file(station(1, bikes=str(minute)), station(2, bikes="5+"))


async def fill(road: Road, minutes: Iterable[int], day: dt.date = DAY) -> dict[str, str]:
    """Raw files at these minutes after 18:00; gives their contents by key."""
    return {await road.put_raw(name(minute, day), text(minute)): text(minute) for minute in minutes}


async def processed_day(road: Road, count: int = FILES, day: dt.date = DAY) -> dict[str, str]:
    files = await fill(road, range(0, 8 * count, 8), day)
    await road.process()
    return files


async def delete(road: Road, keys: Iterable[str]) -> None:
    for key in keys:
        await road.store.delete(key)


async def derived(road: Road) -> dict[str, str]:
    """ETags of Parquet files and dead letters, by key."""
    return await road.keys("processed/") | await road.keys("enhanced/") | await road.keys("dlq/")


def lose_ledger(data_dir: Path) -> None:
    for path in data_dir.glob(f"{FILE_NAME}*"):
        path.unlink()


async def count_rows(road: Road) -> int:
    return sum((await road.row_counts()).values())


async def restored(road: Road, files: dict[str, str]) -> None:
    """All is as it was before they disappeared."""
    for key, content in files.items():
        await road.store.put(key, content.encode())
    await road.process()
    assert road.index.missing.summary() is None
    assert await count_rows(road) == len(files)
    assert (await road.verify()).findings == []


async def test_what_was_made_of_raw_files_that_disappear_is_kept(road: Road) -> None:
    files = await processed_day(road)
    before = await derived(road)
    await delete(road, files)
    assert await road.process() == []
    assert await road.process() == []
    assert await derived(road) == before
    found = road.index.missing.summary()
    assert found is not None and (found.count, found.first, found.last) == (FILES, min(files), max(files))
    assert str(FILES) in found.reason and min(files) in found.reason and "bikeflow forget" in found.reason
    await restored(road, files)


async def test_a_few_that_somebody_has_deleted_are_followed(road: Road) -> None:
    files = await processed_day(road)
    gone = list(files)[:10]
    await delete(road, gone)
    await road.process()
    assert await count_rows(road) == FILES - 10
    assert len(await road.keys("dlq/")) == FILES - 10
    assert road.index.missing.summary() is None


async def test_small_steps_add_up(road: Road) -> None:
    files = await processed_day(road, 30)
    for key in list(files)[:20]:
        await delete(road, [key])
        await road.process()
    assert await count_rows(road) == 20
    found = road.index.missing.summary()
    assert found is not None and found.count == 10


async def test_days_of_few_files_add_up_too(road: Road) -> None:
    days = [DAY + dt.timedelta(days=number) for number in range(12)]
    keys = [key for day in days for key in await fill(road, [0], day)]
    await road.process()
    before = await derived(road)
    await delete(road, keys)
    await road.process()
    assert await derived(road) == before


async def test_of_a_huge_day_one_percent_is_few(road: Road) -> None:
    at = dt.datetime.combine(DAY, dt.time(18))
    names = [f"dt={DAY}/wrm_stations_{at + dt.timedelta(seconds=n):%Y-%m-%d_%H-%M-%S}.txt" for n in range(1200)]
    await road.put_all({one: text(n % 60).encode() for n, one in enumerate(names)})
    await road.process()
    keys = [f"{road.layout.raw}{one}" for one in names]
    await delete(road, keys[:12])
    await road.process()
    assert await count_rows(road) == 1188
    await delete(road, keys[12:13])
    await road.process()
    assert await count_rows(road) == 1188


async def test_a_restart_in_between_changes_nothing(storage: StorageSettings, tmp_path: Path) -> None:
    async with open_road(storage, tmp_path) as road:
        files = await processed_day(road)
        before = await derived(road)
        await delete(road, files)
        await road.process()
    async with open_road(storage, tmp_path) as road:
        assert road.index.missing.summary() is not None, "known before the first look at the store"
        assert await road.process() == []
        assert await derived(road) == before
        await restored(road, files)


async def test_a_part_that_returns_does_not_make_the_rest_few(road: Road) -> None:
    files = await processed_day(road)
    await delete(road, files)
    await road.process()
    for key in list(files)[3:]:
        await road.store.put(key, files[key].encode())
    await road.process()
    assert await count_rows(road) == FILES
    found = road.index.missing.summary()
    assert found is not None and found.count == 3
    await restored(road, files)


async def test_a_lost_ledger_learns_from_the_footers_what_is_missing(storage: StorageSettings, tmp_path: Path) -> None:
    async with open_road(storage, tmp_path) as road:
        files = await processed_day(road)
        before = await derived(road)
        await delete(road, files)
    lose_ledger(tmp_path)
    async with open_road(storage, tmp_path) as road:
        assert await road.process() == []
        assert await derived(road) == before
        found = road.index.missing.summary()
        assert found is not None and found.count == FILES
        late = await fill(road, [1])
        await road.process()
        assert await count_rows(road) == FILES + 1
        await restored(road, files | late)


async def test_dead_letters_alone_are_kept_after_a_lost_ledger_too(storage: StorageSettings, tmp_path: Path) -> None:
    async with open_road(storage, tmp_path) as road:
        keys = [await road.put_raw(name(minute), raw_file(station(2, bikes="5+"))) for minute in range(FILES)]
        await road.process()
        before = await derived(road)
        await delete(road, keys)
    lose_ledger(tmp_path)
    async with open_road(storage, tmp_path) as road:
        await road.process()
        assert await derived(road) == before and len(before) == FILES


async def test_a_segment_with_missing_raw_files_takes_new_ones_and_is_sealed(road: Road) -> None:
    files = await processed_day(road)
    await delete(road, files)
    await road.process()
    late = await fill(road, [1, 100])
    await road.process()
    assert await count_rows(road) == FILES + 2
    await road.reconciler.seal_finished_days(dt.timedelta(0))
    for day in road.index.files.dirty_partitions():
        run = await road.processor.process(PartitionJob(day))
        assert run is not None and run.outcome == "done"
    await road.process()
    assert [key.rpartition("_")[2] for key in await road.keys("enhanced/")] == ["235959.parquet"]
    assert await count_rows(road) == FILES + 2
    await restored(road, files | late)


async def test_raw_files_of_a_sealed_day_that_disappear_are_kept(road: Road) -> None:
    files = await processed_day(road)
    await road.reconciler.seal_finished_days(dt.timedelta(0))
    await road.process()
    before = await derived(road)
    await delete(road, files)
    await road.process()
    assert await derived(road) == before
    await restored(road, files)


async def test_processing_all_again_drops_no_row_of_a_missing_raw_file(road: Road) -> None:
    files = await processed_day(road)
    missing = list(files)[:11]
    await delete(road, missing)
    await road.process()
    road.index.files.write_again(dt.date.min, dt.date.max)
    road.index.files.process_again(missing)
    await road.process()
    assert await count_rows(road) == FILES
    assert len(await road.keys("dlq/")) == FILES
    await restored(road, files)


async def test_raw_files_that_disappear_while_their_day_is_processed_again_are_kept(road: Road) -> None:
    files = await processed_day(road)
    road.index.files.write_again(dt.date.min, dt.date.max)
    await delete(road, files)
    for _ in range(3):
        for day in road.index.files.dirty_partitions():
            await road.processor.process(PartitionJob(day))
    await road.process()
    assert await count_rows(road) == FILES
    await restored(road, files)


async def test_where_the_rows_are_gone_as_well_what_is_left_is_not_replaced_by_less(
    storage: StorageSettings, tmp_path: Path
) -> None:
    async with open_road(storage, tmp_path) as road:
        files = await processed_day(road)
        await delete(road, files)
        await road.process()
        (first, *_) = sorted(await road.keys("enhanced/"))
        await road.store.delete(first)
        processed = await road.keys("processed/")
        assert await road.process() == []
    shutil.rmtree(tmp_path / "mirror")
    async with open_road(storage, tmp_path) as road:  # one that remembers nothing of the rows
        late = await fill(road, [1])
        (run,) = await road.process()
        assert run.outcome == "failed" and "missing" in str(run.error)
        assert await road.keys("processed/") == processed
        await restored(road, files | late)


async def test_rows_that_are_gone_from_the_store_are_written_again_where_they_are_still_known(road: Road) -> None:
    files = await processed_day(road)
    await delete(road, [*files, *await derived(road)])
    await road.process()
    late = await fill(road, [1])
    await road.process()
    assert await count_rows(road) == 9, "of that hour"
    await restored(road, files | late)


async def test_where_nothing_is_left_in_the_store_the_database_keeps_its_files_and_new_hours_come_in(
    road: Road,
) -> None:
    files = await processed_day(road)
    published = road.index.files.segment_objects()
    await delete(road, [*files, *await derived(road)])
    late = await fill(road, [180])
    for _ in range(2):
        assert {run.outcome for run in await road.process()} <= {"done"}
        assert await count_rows(road) == 1
        assert [item for item in road.index.files.segment_objects() if item in published] == published
    assert road.index.missing.summary() is not None
    await restored(road, files | late)


async def test_where_nothing_is_left_what_the_operator_forgets_leaves_the_database(road: Road) -> None:
    files = await processed_day(road)
    await delete(road, [*files, *await derived(road)])
    await road.process()
    road.index.missing.forget(Scope(DAY, DAY))
    await road.process()
    assert road.index.files.segment_objects() == []
    assert await road.process() == []


async def test_verify_tells_what_is_missing_in_one_sentence(road: Road) -> None:
    files = await processed_day(road)
    await delete(road, files)
    for _ in range(2):
        (finding,) = (await road.verify()).findings
        assert (finding.kind, finding.key) == ("missing_raw", min(files))
        assert str(FILES) in finding.message and max(files) in finding.message
        await road.process()


@pytest.mark.parametrize("again", [False, True], ids=["forgotten", "and back"])
async def test_what_the_operator_forgets_goes_with_all_that_was_made_of_it(road: Road, again: bool) -> None:
    files = await processed_day(road)
    other = await processed_day(road, 2, DAY + dt.timedelta(days=1))
    await delete(road, [*files, *other])
    await road.process()
    assert road.index.missing.forget(Scope(DAY, DAY)) == FILES
    await road.process()
    assert await count_rows(road) == 2, "of the other day"
    assert len(await road.keys("dlq/")) == 2
    found = road.index.missing.summary()
    assert found is not None and found.count == 2
    await road.process()
    assert road.index.missing.summary() == found
    if again:
        await restored(road, files | other)
