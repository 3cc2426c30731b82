"""Faults that the other tests here have found, each with a test of its own; named after what holds now."""

from __future__ import annotations

import datetime as dt
import sqlite3
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bikeflow.core.model import UTC, FileRecord, RawFile
from bikeflow.ledger import FILE_NAME, Ledger
from bikeflow.ledger.files import FileIndex, FileResult
from tests.faults.test_predecessor import foreign_parquet
from tests.support.lines import raw_file, station
from tests.support.road import Road
from tests.support.wrm import wrm, wrm_day, wrm_layout

DAY = "dt=2025-06-01"
RAW = f"{DAY}/wrm_stations_2025-06-01_18-10-00.txt"


async def test_the_dead_letters_of_a_deleted_raw_file_go_with_it(road: Road) -> None:
    await road.put_raw(RAW, raw_file(station(1), "junk"))
    await road.process()
    assert await road.keys("dlq/")
    await road.store.delete(f"{road.layout.raw}{RAW}")
    await road.process()
    assert await road.keys() == {}
    assert (await road.verify()).findings == []


async def test_a_segment_that_lands_late_does_not_pass_for_one_of_the_overwritten_raw_file(road: Road) -> None:
    """The raw file has the same size as before, and the same whole second of LastModified as what was made of it."""
    await road.put_raw(RAW, raw_file(station(1, bikes="1")))
    await road.process()
    late = {**await road.objects("processed/"), **await road.objects("enhanced/")}
    await road.put_raw(RAW, raw_file(station(1, bikes="2")))
    for key, data in late.items():
        await road.store.put(key, data)
    await road.process()
    assert [row["bikes"] for row in await road.rows("enhanced")] == [2]
    assert [row["bikes"] for row in await road.rows("processed")] == [2]


@pytest.mark.parametrize("layers", [["processed/"], ["enhanced/"], ["processed/", "enhanced/"]])
async def test_a_segment_that_lands_after_its_successor_is_replaced_by_it(road: Road, layers: list[str]) -> None:
    await road.put_raw(RAW, raw_file(station(1, bikes="1")))
    await road.process()
    late = [await road.objects(layer) for layer in layers]
    await road.put_raw(RAW, raw_file(station(1, bikes="2")))
    await road.process()
    good = {**await road.objects("processed/"), **await road.objects("enhanced/")}
    for objects in late:
        for key, data in objects.items():
            await road.store.put(key, data)
    await road.process()
    assert {**await road.objects("processed/"), **await road.objects("enhanced/")} == good


@pytest.mark.parametrize("layer", ["processed", "enhanced"])
async def test_the_other_layers_file_goes_too_where_the_removal_of_an_empty_segment_was_cut_short(
    road: Road, layer: str
) -> None:
    await road.put_raw(RAW, raw_file(station(1)))
    await road.process()
    for key in (f"{road.layout.raw}{RAW}", *await road.keys(f"{layer}/")):
        await road.store.delete(key)
    await road.process()
    assert await road.keys() == {}


async def test_a_predecessors_file_in_the_place_of_one_of_ours_is_not_replaced(road: Road) -> None:
    await road.put_raw(RAW, raw_file(station(1)))
    await road.process()
    (key,) = await road.keys("processed/")
    await road.store.put(key, foreign_parquet())
    (run,) = await road.process()
    assert "is not bikeflow's" in str(run.error)
    assert (await road.store.get(key)).data == foreign_parquet()


async def test_a_crash_between_the_layers_does_not_bring_back_the_rows_of_an_overwritten_raw_file(road: Road) -> None:
    await road.put_raw(RAW, raw_file(station(1, bikes="1")))
    await road.process()
    before = await road.objects("enhanced/")
    state = road.index.files.known_keys()
    await road.put_raw(RAW, raw_file(station(1, bikes="2")))
    await road.process()
    (key, new), *_ = (await road.objects("processed/")).items()
    for old_key, data in before.items():  # as if only `processed` had been written, and the ledger not been told
        await road.store.put(old_key, data)
    await road.process()
    assert road.index.files.known_keys() != state
    assert [row["bikes"] for row in await road.rows("enhanced")] == [2]
    assert (await road.store.get(key)).data == new


def ledger_in(directory: Path) -> Ledger:
    return Ledger(directory, [wrm_layout("lake/")], 60)


def files_of(ledger: Ledger) -> FileIndex:
    """The raw files and segments of the system `wrm`."""
    return ledger.systems[wrm().id].files


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"_18-10-00.txt", b"_18-10-00.tyt"),  # the last one is the index's: it no longer agrees with the table
        (b"rejected    INTEGER", b"rfjected    INTEGER"),  # a column by another name
        (b"CHECK (date(", b"CHECK (dbte("),  # the schema can't even be read
        (b"2025-06-01T18:10:00.", b"2025-06-01T18:10:0\xb0."),  # no time, and no UTF-8
        (b"2025-06-01T18:10:00.", b"2025-06-01T1x:10:00."),
    ],
)
def test_a_flipped_bit_that_only_a_thorough_look_betrays_sets_the_ledger_aside(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    at = dt.datetime(2025, 6, 1, 18, 10, tzinfo=UTC)
    with ledger_in(tmp_path) as ledger:
        raw = RawFile(f"lake/raw/{RAW}", wrm_day(at.date()), at, 100, "e", at)
        files_of(ledger).observe([(raw, "t")])
    content = (tmp_path / FILE_NAME).read_bytes()
    position = content.rindex(old)
    (tmp_path / FILE_NAME).write_bytes(content[:position] + new + content[position + len(old) :])
    with capture_logs() as logs, ledger_in(tmp_path) as ledger:
        assert files_of(ledger).known_keys() == {}
    assert [entry["event"] for entry in logs] == ["ledger_quarantined"]
    with capture_logs() as logs, ledger_in(tmp_path):
        assert logs == []


def test_a_ledger_keeps_no_count_that_breaks_the_conservation_law(tmp_path: Path) -> None:
    at = dt.datetime(2025, 6, 1, 18, 10, tzinfo=UTC)
    with ledger_in(tmp_path) as ledger:
        raw = RawFile(f"lake/raw/{RAW}", wrm_day(at.date()), at, 100, "e", at)
        files_of(ledger).observe([(raw, "t")])
        (work,) = files_of(ledger).dirty_segments(at.date())
        with pytest.raises(sqlite3.IntegrityError):
            results = [FileResult(FileRecord(raw.key, 9, "m", lines=3, rows=1, rejected=1), "e", letters=True)]
            files_of(ledger).segment_written(work, {}, results)
