"""The ledger: what it calls dirty, what it forgets, and how it survives its own loss."""

from __future__ import annotations

import datetime as dt
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bikeflow.core.layout import LAYERS
from bikeflow.core.model import UTC, FetchState, FileRecord, ObjectInfo, RawFile, Run
from bikeflow.ledger import FILE_NAME, Ledger, SystemIndex
from bikeflow.ledger.database import queries
from bikeflow.ledger.files import FileResult, SegmentWork
from tests.support.wrm import wrm_day, wrm_layout

LAYOUT = wrm_layout("p/")
DAY = dt.date(2025, 6, 1)
PARTITION = wrm_day(DAY)
NOON = dt.datetime(2025, 6, 1, 12, 0, 5, tzinfo=UTC)


def raw(minute: int = 0, etag: str = "a", at: dt.datetime = NOON) -> RawFile:
    time = at + dt.timedelta(minutes=minute)
    return RawFile(LAYOUT.raw_key(time), wrm_day(time.date()), time, 10, etag, time)


def info(key: str, etag: str = "e") -> ObjectInfo:
    return ObjectInfo(key, 100, etag, NOON)


def write(ledger: Ledger, work: SegmentWork, rejected: int = 0) -> None:
    results = [
        FileResult(FileRecord(file.key, file.size, "md5", 5, 5 - rejected, rejected), file.etag, rejected > 0)
        for file in work.files
    ]
    objects = {layer: info(LAYOUT.segment_key(layer, work.segment)) for layer in LAYERS}
    index(ledger).files.segment_written(work, objects, results)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path, [LAYOUT], 60)


def index(ledger: Ledger) -> SystemIndex:
    """What the ledger knows of the system `wrm`."""
    return ledger.systems[LAYOUT.system_id]


def work_of(ledger: Ledger) -> list[SegmentWork]:
    return index(ledger).files.dirty_segments(DAY)


def test_a_new_raw_file_makes_its_segment_dirty_until_it_is_written(ledger: Ledger) -> None:
    assert index(ledger).files.observe([(raw(), "t1")]) == [raw()]
    (work,) = work_of(ledger)
    assert (work.segment.start, work.segment.end) == (dt.time(12), dt.time(12, 59, 59))
    assert (work.files, set(work.changed), work.traces) == ((raw(),), {raw().key}, {raw().key: "t1"})
    assert index(ledger).files.dirty_partitions(NOON) == [PARTITION]
    write(ledger, work)
    assert (work_of(ledger), index(ledger).files.dirty_partitions(NOON)) == ([], [])
    assert index(ledger).files.observe([(raw(), "t2")]) == []
    assert work_of(ledger) == []
    assert [item.key for item in index(ledger).files.segment_objects()] == [
        LAYOUT.segment_key("enhanced", work.segment)
    ]


def test_a_file_that_arrives_while_its_segment_is_written_keeps_it_dirty(ledger: Ledger) -> None:
    index(ledger).files.observe([(raw(0), "t")])
    (work,) = work_of(ledger)
    index(ledger).files.observe([(raw(1), "t")])
    write(ledger, work)
    (again,) = work_of(ledger)
    assert (again.files, set(again.changed)) == ((raw(0), raw(1)), {raw(1).key})


def test_an_overwritten_raw_file_is_changed(ledger: Ledger) -> None:
    index(ledger).files.observe([(raw(), "t")])
    write(ledger, work_of(ledger)[0], rejected=2)
    index(ledger).files.observe([(raw(etag="b"), "t")])
    (work,) = work_of(ledger)
    assert (set(work.changed), set(work.lettered)) == ({raw().key}, {raw().key})


def test_a_forgotten_raw_file_leaves_its_segment_to_be_written_without_it(ledger: Ledger) -> None:
    index(ledger).files.observe([(raw(0), "t"), (raw(1), "t")])
    write(ledger, work_of(ledger)[0])
    index(ledger).files.forget([raw(0).key])
    (work,) = work_of(ledger)
    assert (work.files, set(work.changed)) == ((raw(1),), set())
    write(ledger, work)
    index(ledger).files.forget([raw(1).key])
    (work,) = work_of(ledger)
    assert (work.files, set(work.etags)) == ((), {"processed", "enhanced"})
    index(ledger).files.segment_written(work, {}, [])
    assert (work_of(ledger), index(ledger).files.segment_objects()) == ([], [])


def test_another_segment_length_moves_the_files_and_empties_the_old_segments(tmp_path: Path) -> None:
    with Ledger(tmp_path, [LAYOUT], 60) as ledger:
        index(ledger).files.observe([(raw(0), "t"), (raw(45), "t")])
        write(ledger, work_of(ledger)[0])
    with Ledger(tmp_path, [LAYOUT], 20) as ledger:
        index(ledger).files.observe([(raw(0), "t"), (raw(45), "t")])
        assert [(f"{work.segment.end:%H:%M}", work.files) for work in work_of(ledger)] == [
            ("12:19", (raw(0),)),
            ("12:59", (raw(45),)),
        ]
        (_, last) = work_of(ledger)
        assert last.segment.start == dt.time(12, 40)


def test_a_failing_partition_waits_twice_as_long_each_time(ledger: Ledger) -> None:
    index(ledger).files.observe([(raw(), "t")])
    run = Run("r", PARTITION, NOON, NOON, "failed", 0, 0, 0, 0, 0, "broken", ())
    waits = []
    for number in range(4):
        ledger.runs.record(
            Run(**{**{name: getattr(run, name) for name in Run.__slots__}, "run_id": f"r{number}"}),
            retry_initial_seconds=5,
            retry_max_seconds=30,
        )
        waits.append(
            next(s for s in range(1, 60) if index(ledger).files.dirty_partitions(NOON + dt.timedelta(seconds=s)))
        )
    assert waits == [5, 10, 20, 30]
    assert ledger.runs.failing()[0]["error"] == "broken"
    ledger.runs.retry_now()
    assert index(ledger).files.dirty_partitions(NOON) == [PARTITION]
    assert [row["run_id"] for row in ledger.runs.latest(2)] == ["r3", "r2"]


def test_the_key_from_which_a_poll_lists(ledger: Ledger) -> None:
    assert index(ledger).files.key_before_newest(2) == ""
    index(ledger).files.observe([(raw(minute), "t") for minute in range(4)])
    assert index(ledger).files.key_before_newest(2) == raw(1).key


def test_what_the_fetcher_remembers_survives_a_restart(tmp_path: Path) -> None:
    state = FetchState("ab", "k", NOON, {"u": ('"x"', ""), "v": ("", "yesterday")})
    with Ledger(tmp_path, [LAYOUT], 60) as ledger:
        assert index(ledger).fetch_state() is None
        index(ledger).save_fetch_state(state)
    with Ledger(tmp_path, [LAYOUT], 60) as ledger:
        assert index(ledger).fetch_state() == state


@pytest.mark.parametrize("damage", [b"", b"not a database", b"SQLite format 3\x00" + bytes(2000)])
def test_a_damaged_ledger_is_set_aside_and_begun_anew(tmp_path: Path, damage: bytes) -> None:
    with Ledger(tmp_path, [LAYOUT], 60) as ledger:
        index(ledger).files.observe([(raw(), "t")])
    (tmp_path / FILE_NAME).write_bytes(damage)
    with Ledger(tmp_path, [LAYOUT], 60) as ledger:
        assert index(ledger).files.known_keys() == {}
        assert index(ledger).files.observe([(raw(), "t")]) == [raw()]


def test_a_lost_ledger_adopts_what_the_footers_tell(ledger: Ledger) -> None:
    index(ledger).files.observe([(raw(0), "t"), (raw(1), "t")])
    (work,) = work_of(ledger)
    objects = {layer: info(LAYOUT.segment_key(layer, work.segment)) for layer in LAYERS}
    results = [FileResult(FileRecord(file.key, file.size, "md5", 5, 4, 1), file.etag, True) for file in work.files]
    assert not index(ledger).adopt(work.segment, objects, results[:1])
    assert work_of(ledger)[0].changed == {raw(1).key}
    assert index(ledger).adopt(work.segment, objects, results)
    assert work_of(ledger) == []
    assert index(ledger).files.processed() == {raw(0).key: True, raw(1).key: True}
    index(ledger).lost(work.segment, "processed")
    (again,) = work_of(ledger)
    assert (set(again.changed), list(again.etags)) == (set(), ["enhanced"])


def test_an_arrival_costs_sqlite_the_same_in_an_archive_of_a_hundred_times_more_files(
    tmp_path: Path,
) -> None:
    few, many = (_steps_of_an_arrival(tmp_path / str(files), files) for files in (4, 400))
    assert many.keys() == few.keys()
    assert {name: steps for name, steps in many.items() if steps > few[name] + 20} == {}


def _steps_of_an_arrival(folder: Path, files: int) -> dict[str, int]:
    """The virtual machine's instructions for each call, after five sealed days of so many raw files."""
    ledger, midnight = Ledger(folder, [LAYOUT], 60), NOON.replace(hour=0, second=0)
    gap = dt.timedelta(days=1) / files
    for day in range(5, 0, -1):
        first = midnight - dt.timedelta(days=day)
        index(ledger).files.observe([(raw(at=first + number * gap), "t") for number in range(files)])
        index(ledger).files.seal(wrm_day(first.date()), idle=True)
        for work in index(ledger).files.dirty_segments(first.date()):
            write(ledger, work)
    index(ledger).files.observe([(raw(0), "t")])
    write(ledger, work_of(ledger)[0])
    steps: dict[str, int] = {}

    def counted(call: partial[Any]) -> None:
        name = f"{len(steps)}: {call.func.__name__}"
        steps[name] = 0

        def count() -> None:
            steps[name] += 1

        ledger._database._connection.set_progress_handler(count, 1)
        call()
        ledger._database._connection.set_progress_handler(None, 1)

    counted(partial(index(ledger).files.key_before_newest, 3))
    counted(partial(index(ledger).files.observe, [(raw(1), "t")]))
    counted(partial(index(ledger).files.days_to_seal, DAY, NOON))
    counted(partial(index(ledger).files.dirty_partitions, NOON))
    counted(partial(index(ledger).files.dirty_segments, DAY))
    counted(partial(write, ledger, work_of(ledger)[0]))
    counted(partial(index(ledger).files.published_segments))
    counted(partial(ledger.runs.runs_since, None, 10))
    counted(partial(ledger.runs.files_without_rows, 10))
    ledger.close()
    return steps


WHOLE_SYSTEM = {"key_before_newest", "known_etags", "leave_raw_files", "processed_files"}
"""Queries that go through all raw files of a system, or walk them from the newest."""


def test_no_query_but_those_of_a_whole_system_goes_through_all_its_raw_files(ledger: Ledger) -> None:
    connection = ledger._database._connection
    wide = set()
    for name, sql in queries().items():
        plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", dict.fromkeys(re.findall(r":(\w+)", sql)))
        steps = [step["detail"] for step in plan]
        wide |= {name for step in steps if re.fullmatch(r"(SCAN raw.*|SEARCH raw\w* USING .*\(system_id=\?\))", step)}
    assert wide == WHOLE_SYSTEM
