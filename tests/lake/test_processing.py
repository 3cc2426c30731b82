"""From raw files in a store to both layers and dead letters, over a local lake and over a real S3 server."""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bikeflow.core.model import PartitionJob
from bikeflow.core.schema import ENHANCED, PROCESSED
from bikeflow.ledger import FILE_NAME
from bikeflow.segments.footer import read_footer
from bikeflow.settings.sections import StorageSettings
from tests.support.lines import HEADER, bike, raw_file, station
from tests.support.real import SNAPSHOTS
from tests.support.road import Road, open_road
from tests.support.wrm import wrm_day

DAY = "dt=2025-06-01"


def name(time: str, day: str = "2025-06-01") -> str:
    return f"dt={day}/wrm_stations_{day}_{time}.txt"


def short(time: str, day: str = "2025-06-01") -> str:
    return name(time, day).split("/")[1]


def real_snapshots() -> dict[str, bytes]:
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in SNAPSHOTS}


def remove_ledger(data_dir: Path) -> None:
    for path in data_dir.glob(f"{FILE_NAME}*"):
        path.unlink()


def predecessors_parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"station_id": ["1"], "s3_source_key": ["x"]}), sink)
    return sink.getvalue()


async def test_raw_files_become_segments_of_both_layers(road: Road) -> None:
    await road.put_raw(name("18-10-07"), raw_file(station(2), station(1), bike(1)))
    await road.put_raw(name("18-59-59"), raw_file(station(1), station(2)))
    await road.put_raw(name("19-00-00"), raw_file(station(1)))
    (run,) = await road.process()
    assert (run.outcome, run.segments, run.files, run.lines, run.rows, run.rejected) == ("done", 2, 3, 6, 6, 0)
    for layer, schema in (("processed", PROCESSED), ("enhanced", ENHANCED)):
        files = await road.objects(f"{layer}/all/")
        prefix = f"{road.layout.prefix}{layer}/all/{DAY}/all_{layer}_20250601_"
        assert sorted(files) == [f"{prefix}185959.parquet", f"{prefix}195959.parquet"]
        first = pq.ParquetFile(io.BytesIO(files[f"{prefix}185959.parquet"]))
        assert first.schema_arrow.remove_metadata() == schema
        rows = first.read().to_pylist()
        assert [row["station_id"] for row in rows] == ["1", "1", "2", "2", "fb1"]
        assert [row["s3_source_key"].split("_")[-1] for row in rows[:2]] == ["18-10-07.txt", "18-59-59.txt"]
    assert road.finished[0].run.partition == wrm_day(dt.date(2025, 6, 1))
    assert (await road.verify()).findings == []


async def test_the_footer_names_the_raw_files_with_their_counts(road: Road) -> None:
    key = await road.put_raw(name("18-10-07"), raw_file(station(1), station(2, bikes="5+")))
    await road.process()
    (data,) = (await road.objects("enhanced/all/")).values()
    footer = read_footer(data, road.layout.system_id)
    assert footer is not None
    assert (footer.segment.start, footer.segment.end) == (dt.time(18), dt.time(18, 59, 59))
    (record,) = footer.files
    assert (record.key, record.lines, record.rows, record.rejected) == (key, 2, 1, 1)


async def test_the_four_real_snapshots_come_out_whole_and_doing_it_again_changes_nothing(road: Road) -> None:
    await road.put_all(real_snapshots())
    runs = await road.process()
    assert sum(run.rows for run in runs) == 1798
    assert sum(run.rejected for run in runs) == 0
    rows = await road.rows("enhanced")
    assert len(rows) == len(await road.rows("processed")) == 1798
    assert sum(row["battery_level"] is not None for row in rows) > 90
    report = await road.verify()
    assert (report.findings, report.lines, report.rows, report.rejected) == ([], 1798, 1798, 0)
    before = await road.keys()
    assert await road.process() == []
    road.index.files.write_again(dt.date.min, dt.date.max)
    assert len(await road.process()) == 2
    after = await road.keys()
    assert before.keys() == after.keys()
    contents = await road.objects("enhanced/all/")
    road.index.files.write_again(dt.date.min, dt.date.max)
    await road.process()
    assert await road.objects("enhanced/all/") == contents


async def test_an_arrival_gives_the_same_bytes_as_processing_all_at_once(road: Road, tmp_path: Path) -> None:
    texts = {
        name(f"18-{n:02}-00"): raw_file(*[station(i, bikes=str(n), name=f"S{n * i % 7}") for i in range(5)])
        for n in range(6)
    }
    for at, text in texts.items():
        await road.put_raw(at, text)
        await road.process()
    one_by_one = await road.objects("enhanced/all/") | await road.objects("processed/all/")
    async with open_road(StorageSettings(prefix=road.layout.prefix), tmp_path / "other") as other:
        for at, text in texts.items():
            await other.put_raw(at, text)
        await other.process()
        at_once = await other.objects("enhanced/all/") | await other.objects("processed/all/")
    assert one_by_one == at_once


async def test_late_overwritten_and_deleted_raw_files_are_followed(road: Road) -> None:
    await road.put_raw(name("18-10-00"), raw_file(station(1), station(2)))
    await road.put_raw(name("18-20-00"), raw_file(station(1)))
    await road.process()
    late = await road.put_raw(name("18-05-00"), raw_file(station(1)))
    await road.put_raw(name("18-10-00"), raw_file(station(1, bikes="1"), station(2), station(3)))
    await road.store.delete(f"{road.layout.raw}{name('18-20-00')}")
    await road.process()
    assert await road.row_counts() == {short("18-05-00"): 1, short("18-10-00"): 3}
    await road.store.delete(late)
    await road.store.delete(f"{road.layout.raw}{name('18-10-00')}")
    await road.process()
    assert await road.keys("enhanced/") == await road.keys("processed/") == {}


async def test_dead_letters_are_replaced_with_their_file_and_go_when_it_is_mended(road: Road) -> None:
    await road.put_raw(name("18-10-00"), raw_file(station(1, bikes="-1"), "junk", station(2)))
    await road.process()
    key = f"{road.layout.prefix}dlq/{DAY}/wrm_stations_2025-06-01_18-10-00.jsonl"
    assert len((await road.objects("dlq/"))[key].splitlines()) == 2
    assert (await road.verify()).findings == []
    await road.put_raw(name("18-10-00"), raw_file(station(1), "junk!", station(2)))
    await road.process()
    assert len((await road.objects("dlq/"))[key].splitlines()) == 1
    await road.put_raw(name("18-10-00"), raw_file(station(1), station(2)))
    await road.process()
    assert await road.keys("dlq/") == {}


async def test_a_file_of_which_every_line_is_bad_leaves_dead_letters_and_no_parquet(road: Road) -> None:
    await road.put_raw(name("18-10-00"), raw_file("junk", "more junk"))
    await road.put_raw(name("19-10-00"), "<html>502</html>")
    (run,) = await road.process()
    assert (run.outcome, run.rows) == ("done", 0)
    assert await road.keys("enhanced/") == {}
    assert len(await road.keys("dlq/")) == 2
    assert (await road.verify()).findings == []
    assert await road.process() == []


async def test_a_lost_ledger_is_rebuilt_from_the_lake_without_writing_anything_again(
    storage: StorageSettings, tmp_path: Path
) -> None:
    async with open_road(storage, tmp_path) as road:
        await road.put_raw(name("18-10-00"), raw_file(station(1), station(2, lat="95")))
        await road.put_raw(name("19-10-00", "2025-06-02"), raw_file(station(1)))
        await road.process()
        before, totals = await road.keys(), road.index.files.totals()
    remove_ledger(tmp_path)
    async with open_road(storage, tmp_path) as road:
        assert await road.process() == []
        assert (await road.keys(), road.index.files.totals()) == (before, totals)


async def test_lost_and_damaged_outputs_are_made_again(road: Road) -> None:
    await road.put_raw(name("18-10-00"), raw_file(station(1), "junk"))
    await road.put_raw(name("19-10-00"), raw_file(station(1)))
    await road.put_raw(name("20-10-00"), raw_file(station(1)))
    await road.process()
    before = {**await road.objects("enhanced/"), **await road.objects("processed/")}
    enhanced = [key for key in before if "enhanced" in key]
    await road.store.delete(enhanced[0])
    await road.store.put(enhanced[1], b"PAR1 is not enough")
    await road.store.delete(next(iter(await road.keys("dlq/"))))
    await road.store.delete(enhanced[2].replace("enhanced", "processed"))
    await road.process()
    assert {**await road.objects("enhanced/"), **await road.objects("processed/")} == before
    assert len(await road.keys("dlq/")) == 1


async def test_a_predecessors_parquet_is_neither_counted_nor_touched_nor_replaced(road: Road) -> None:
    others = [
        f"{road.layout.prefix}enhanced/all/{DAY}/all_enhanced_20250601_{at}.parquet" for at in ("135005", "185959")
    ]
    for key in others:
        await road.store.put(key, predecessors_parquet())
    await road.put_raw(name("18-10-00"), raw_file(station(1)))
    await road.put_raw(name("19-10-00"), raw_file(station(1)))
    (run,) = await road.process()
    assert run.outcome == "failed"
    assert run.segments == 1
    assert "all_enhanced_20250601_185959.parquet exists and is not bikeflow's" in str(run.error)
    objects = await road.objects("enhanced/")
    assert [objects[key] for key in others] == [predecessors_parquet()] * 2
    assert len(road.index.files.segment_objects()) == 1
    await road.store.delete(others[1])
    assert [run.outcome for run in await road.process()] == ["done"]


async def test_foreign_objects_and_odd_names_below_raw(road: Road) -> None:
    await road.put_raw("dt=2025-06-01/anything.txt", raw_file(station(1)))
    for odd in (
        "dt=2025-06-01/readme.md",
        "dt=2025-13-01/wrm_stations_2025-13-01_00-00-00.txt",
        "stray.txt",
        "dt=x/a.txt",
    ):
        await road.store.put(f"{road.layout.raw}{odd}", b"not ours")
    (run,) = await road.process()
    assert (run.files, run.rows) == (1, 1)
    (key,) = await road.keys("enhanced/")
    assert key.endswith(("_235959.parquet", "_005959.parquet")) or "20250601_" in key


async def test_another_segment_length_rewrites_the_day_without_losing_or_doubling_a_row(
    storage: StorageSettings, tmp_path: Path
) -> None:
    async with open_road(storage, tmp_path, segment_minutes=60) as road:
        for at in ("18-05-00", "18-45-00", "19-05-00"):
            await road.put_raw(name(at), raw_file(station(1), station(2)))
        await road.process()
    async with open_road(storage, tmp_path, segment_minutes=20) as road:
        await road.process()
        assert await road.row_counts() == {short("18-05-00"): 2, short("18-45-00"): 2, short("19-05-00"): 2}
        assert sorted(key[-14:-8] for key in await road.keys("enhanced/")) == ["181959", "185959", "191959"]
        assert (await road.verify()).findings == []


async def test_verify_finds_what_is_wrong(road: Road) -> None:
    first = await road.put_raw(name("18-10-00"), raw_file(station(1), station(2)))
    await road.put_raw(name("19-10-00"), raw_file(station(1)))
    await road.process()
    assert (await road.verify()).findings == []
    await road.store.put(first, raw_file(station(1), station(2), station(3)).encode())
    await road.put_raw(name("20-10-00"), raw_file(station(1)))
    await road.store.delete(f"{road.layout.raw}{name('19-10-00')}")
    kinds = {finding.key.rsplit("_", 1)[-1]: finding.kind for finding in (await road.verify()).findings}
    assert kinds == {"18-10-00.txt": "not_conserved", "19-10-00.txt": "missing_raw", "20-10-00.txt": "not_processed"}


async def test_a_header_that_lost_a_column_rejects_the_file_only(road: Road) -> None:
    await road.put_raw(name("18-10-00"), raw_file(station(1), header=HEADER.replace("lat", "latitude")))
    await road.put_raw(name("18-20-00"), raw_file(station(1)))
    await road.process()
    assert await road.row_counts() == {short("18-20-00"): 1}
    assert (await road.verify()).findings == []


async def test_a_finished_day_is_sealed_into_one_file_and_late_files_still_get_in(
    storage: StorageSettings, tmp_path: Path
) -> None:
    async with open_road(storage, tmp_path) as road:
        for at in ("00-05-00", "18-05-00", "23-45-00"):
            await road.put_raw(name(at), raw_file(station(1), station(2), "junk"))
        await road.process()
        assert len(await road.keys("enhanced/")) == 3
        assert await road.reconciler.seal_finished_days() == [wrm_day(dt.date(2025, 6, 1))]
        await road.process()
        assert [key[-14:-8] for key in await road.keys("enhanced/")] == ["235959"]
        await road.put_raw(name("12-00-00"), raw_file(station(1)))
        await road.process()
        assert [key[-14:-8] for key in await road.keys("enhanced/")] == ["125959", "235959"]
        assert (await road.verify()).findings == []
        assert await road.reconciler.seal_finished_days() == []
        assert await road.reconciler.seal_finished_days(quiet=dt.timedelta(0)) == [wrm_day(dt.date(2025, 6, 1))]
        await road.process()
        assert [key[-14:-8] for key in await road.keys("enhanced/")] == ["235959"]
        assert [key[-14:-8] for key in await road.keys("processed/")] == ["235959"]
        expected = {short("00-05-00"): 2, short("12-00-00"): 1, short("18-05-00"): 2, short("23-45-00"): 2}
        assert await road.row_counts() == await road.row_counts("processed") == expected
        assert (await road.verify()).findings == []
        sealed = await road.objects("enhanced/")
    async with open_road(StorageSettings(prefix=road.layout.prefix), tmp_path / "other") as cold:
        await cold.put_all({name("12-00-00"): raw_file(station(1)).encode()})
        for at in ("00-05-00", "18-05-00", "23-45-00"):
            await cold.put_raw(name(at), raw_file(station(1), station(2), "junk"))
        await cold.reconciler.reconcile()
        assert await cold.reconciler.seal_finished_days() == [wrm_day(dt.date(2025, 6, 1))]
        await cold.process()
        assert await cold.objects("enhanced/") == sealed
    remove_ledger(tmp_path)
    async with open_road(storage, tmp_path) as again:
        assert await again.process() == []
        assert await again.reconciler.seal_finished_days() == []
        assert await again.objects("enhanced/") == sealed


async def test_a_day_that_is_sealed_while_an_hour_of_it_is_being_written_holds_each_row_once(road: Road) -> None:
    day = dt.date(2025, 6, 1)
    await road.put_raw(name("04-01-00"), raw_file(station(1)))
    await road.reconciler.reconcile()
    (hour,) = road.index.files.dirty_segments(day)
    assert await road.reconciler.seal_finished_days() == [wrm_day(day)]
    await road.processor.write(hour)
    await road.processor.process(PartitionJob(wrm_day(day)))
    assert await road.row_counts() == await road.row_counts("processed") == {short("04-01-00"): 1}
    assert [key[-14:-8] for key in await road.keys("enhanced/")] == ["235959"]
    assert road.index.files.dirty_partitions() == []


@pytest.mark.parametrize("lose_ledger", [False, True])
@pytest.mark.parametrize("puts", [1, 2])
async def test_a_crash_in_the_midst_of_sealing_is_finished_by_the_next_start(
    storage: StorageSettings, tmp_path: Path, puts: int, lose_ledger: bool
) -> None:
    async with open_road(storage, tmp_path) as road:
        for at in ("00-05-00", "18-05-00", "23-45-00"):
            await road.put_raw(name(at), raw_file(station(1), station(2)))
        await road.process()
        hourly = {**await road.objects("enhanced/"), **await road.objects("processed/")}
        await road.reconciler.seal_finished_days()
        await road.process()
        sealed = {**await road.objects("processed/"), **await road.objects("enhanced/")}
        for key in sealed:
            await road.store.delete(key)
    async with open_road(storage, tmp_path) as road:
        for key, data in (hourly | dict(list(sealed.items())[:puts])).items():
            await road.store.put(key, data)
    if lose_ledger:
        remove_ledger(tmp_path)
    async with open_road(storage, tmp_path) as road:
        await road.process()
        assert await road.process() == []
        assert {**await road.objects("processed/"), **await road.objects("enhanced/")} == sealed
        assert (await road.verify()).findings == []


async def test_a_year_below_1000_has_four_digits_in_all_keys(road: Road) -> None:
    """Where the clock of a feed goes mad: strftime would write the year 999 as three digits."""
    await road.put_all({f"dt=0999-05-12/{SNAPSHOTS[0].name}": SNAPSHOTS[0].read_bytes() + b"odd\n"})
    await road.process()
    keys = {key.removeprefix(road.layout.prefix) for key in await road.keys()}
    assert keys == {
        f"raw/dt=0999-05-12/{SNAPSHOTS[0].name}",
        "processed/all/dt=0999-05-12/all_processed_09990512_235959.parquet",
        "enhanced/all/dt=0999-05-12/all_enhanced_09990512_235959.parquet",
        f"dlq/dt=0999-05-12/{SNAPSHOTS[0].stem}.jsonl",
    }
    assert await road.process() == []
