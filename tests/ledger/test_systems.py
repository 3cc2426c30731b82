"""Two systems in one ledger: nothing of one shows in the other, though they have the same days and the same names."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from bikeflow.core.layout import LAYERS, Layout
from bikeflow.core.model import UTC, FetchState, FileRecord, ObjectInfo, Partition, RawFile, Run
from bikeflow.ledger import Ledger
from bikeflow.ledger.files import FileResult, SegmentWork

ONE, OTHER = (Layout(name, f"{name}/", "wrm_stations", ".txt") for name in ("one", "other"))
DAY = dt.date(2025, 6, 1)
NOON = dt.datetime(2025, 6, 1, 12, 0, 5, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path, [ONE, OTHER], 60) as ledger:
        yield ledger


def raw(layout: Layout, minute: int = 0, day: int = 1, etag: str = "a") -> RawFile:
    time = NOON.replace(day=day) + dt.timedelta(minutes=minute)
    return RawFile(layout.raw_key(time), Partition(layout.system_id, time.date()), time, 10, etag, time)


def observe(ledger: Ledger, *files: RawFile) -> None:
    for file in files:
        assert ledger.systems[file.partition.system_id].files.observe([(file, "t")]) == [file]


def write(ledger: Ledger, layout: Layout, work: SegmentWork) -> None:
    results = [
        FileResult(FileRecord(file.key, file.size, "md5", 5, 4, 1), file.etag, letters=True) for file in work.files
    ]
    info = {layer: ObjectInfo(layout.segment_key(layer, work.segment), 100, "e", NOON) for layer in LAYERS}
    ledger.systems[layout.system_id].files.segment_written(work, info, results)


def write_all(ledger: Ledger, layout: Layout) -> None:
    files = ledger.systems[layout.system_id].files
    for partition in files.dirty_partitions():
        for work in files.dirty_segments(partition.day):
            write(ledger, layout, work)


def shown(ledger: Ledger, layout: Layout) -> list[object]:
    """All that can be asked of one system."""
    index = ledger.systems[layout.system_id]
    files = index.files
    return [
        files.known_keys(), files.key_before_newest(0), files.processed(),
        files.dirty_partitions(NOON), files.dirty_partitions(), files.dirty_files(DAY, DAY),
        files.dirty_segments(DAY),
        files.days_to_seal(dt.date(2025, 6, 9), NOON), files.segment_objects(), files.published_segments(),
        files.reconciled_at(), files.totals(), files.totals(DAY, DAY), files.raw_files([raw(ONE).key, raw(OTHER).key]),
        [index.known_objects(layer) for layer in LAYERS], index.foreign_objects(), index.fetch_state(),
    ]  # fmt: skip


def test_whatever_happens_to_one_system_shows_nothing_in_the_other(ledger: Ledger) -> None:
    observe(ledger, raw(OTHER), raw(OTHER, 30), raw(OTHER, day=2))
    write_all(ledger, OTHER)
    observe(ledger, raw(OTHER, 70))
    before = shown(ledger, OTHER)
    one, memory = ledger.systems["one"], FetchState("ab", "k", NOON)
    observe(ledger, raw(ONE), raw(ONE, 90), raw(ONE, day=2))
    (first, second) = one.files.dirty_segments(DAY)
    write(ledger, ONE, first)
    one.set_foreign_objects({"one/enhanced/all/theirs.parquet": "x"})
    one.save_fetch_state(memory)
    one.files.set_reconciled(NOON)
    fail(ledger, Partition("one", DAY))
    one.files.seal(Partition("one", dt.date(2025, 6, 2)))
    one.files.process_again([raw(ONE).key, raw(OTHER).key])
    one.lost(first.segment, "enhanced")
    one.files.write_again(DAY, DAY)
    one.adopt(second.segment, {}, [])
    one.files.forget([raw(ONE).key, raw(OTHER).key])
    assert shown(ledger, OTHER) == before
    assert ledger.systems["other"].fetch_state() is None and one.fetch_state() == memory
    assert all(key.startswith("one/") for key in one.files.known_keys())


def fail(ledger: Ledger, partition: Partition) -> None:
    run = Run(f"run of {partition}", partition, NOON, NOON, "failed", 0, 0, 0, 0, 0, "broken", ())
    ledger.runs.record(run, retry_initial_seconds=900, retry_max_seconds=900)


def test_a_partition_that_failed_waits_and_the_same_day_of_the_other_system_does_not(ledger: Ledger) -> None:
    observe(ledger, raw(ONE), raw(OTHER))
    fail(ledger, Partition("one", DAY))
    one, other = (ledger.systems[name].files for name in ("one", "other"))
    assert (one.dirty_partitions(NOON), other.dirty_partitions(NOON)) == ([], [Partition("other", DAY)])
    assert [(row["system_id"], row["day"]) for row in ledger.runs.failing()] == [("one", "2025-06-01")]
    fail(ledger, Partition("other", DAY))
    ledger.runs.retry_now("one")
    assert (one.dirty_partitions(NOON), other.dirty_partitions(NOON)) == ([Partition("one", DAY)], [])
    ledger.runs.retry_now()
    assert other.dirty_partitions(NOON) == [Partition("other", DAY)]


def test_the_database_is_made_of_the_systems_whose_lake_is_known(ledger: Ledger) -> None:
    observe(ledger, raw(ONE), raw(OTHER))
    for layout in (ONE, OTHER):
        write_all(ledger, layout)
    assert ledger.published_segments() is None
    ledger.systems["other"].files.set_reconciled(NOON)
    assert [item.partition.system_id for item in ledger.published_segments() or ()] == ["other"]
    ledger.systems["one"].files.set_reconciled(NOON)
    assert [item.partition.system_id for item in ledger.published_segments() or ()] == ["one", "other"]
    assert ledger.totals() == {
        "raw_files": 2, "processed_files": 2, "lines": 10, "rows": 8, "rejected": 2, "dirty_segments": 0
    }  # fmt: skip


def test_a_system_that_is_configured_no_more_keeps_what_was_known_of_it(tmp_path: Path) -> None:
    with Ledger(tmp_path, [ONE, OTHER], 60) as ledger:
        observe(ledger, raw(ONE), raw(OTHER))
    with Ledger(tmp_path, [ONE], 60) as ledger:
        assert list(ledger.systems) == ["one"] and ledger.totals()["raw_files"] == 1
    with Ledger(tmp_path, [ONE, OTHER], 60) as ledger:
        assert ledger.systems["other"].files.known_keys() == {raw(OTHER).key: "a"}
