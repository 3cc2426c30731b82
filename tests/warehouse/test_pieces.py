"""An open segment is read piece by piece: an arrival costs what is new, and nobody sees the seams."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bikeflow.layout import segment_of
from bikeflow.transform.segment import SegmentTable, read
from tests.support.parquet import DAY, Row, at, parquet, snapshot
from tests.support.rounds import rounds
from tests.warehouse.conftest import Analytics, open_analytics
from tests.warehouse.test_warehouse import assert_published

NINE = segment_of(DAY, at(9), 60)


def minutes(*numbers: int, hour: int = 9, **changes: object) -> list[Row]:
    """Snapshots of these minutes."""
    return [item for number in numbers for item in snapshot(at(hour, number), "1", "2", "fb1", **changes)]


def pieces(analytics: Analytics) -> list[list[int]]:
    """The minutes of the raw files that each piece of the published segment was made of."""
    copy = analytics.data_dir / "frozen.duckdb"
    frozen = analytics.warehouse.freeze(copy)
    copy.unlink()
    assert frozen is not None
    files = frozen.files["raw_files"][f"dt={DAY}/all_enhanced_20250601_095959"]
    times = [pq.read_table(path, partitioning=None)["file_timestamp"].to_pylist() for path in files]
    return [[time.minute for time in piece] for piece in times]


async def test_an_arrival_reads_the_rows_of_its_own_raw_file_only(analytics: Analytics) -> None:
    for arrived in ((0, 1), (0, 1, 2), (0, 1, 2, 3, 4)):
        await analytics.layer.put(NINE, minutes(*arrived))
        assert (await analytics.refresh()).changed == 1
        assert_published(analytics)
    assert pieces(analytics) == [[0, 1], [2], [3, 4]]


@dataclass
class AtHand:
    """The rows of a file, and the raw files whose rows were asked for."""

    table: SegmentTable
    asked: list[str]

    def rows_of(self, keys: Collection[str]) -> pa.Table:
        self.asked += keys
        return self.table.rows_of(keys)


async def test_rows_that_are_still_in_memory_are_not_read_from_the_file(analytics: Analytics) -> None:
    asked: list[str] = []

    def at_hand(data: bytes) -> AtHand:
        table = read(data)
        assert table is not None
        return AtHand(table, asked)

    for arrived in ((0,), (0, 1), (0, 1, 2, 3)):
        await analytics.layer.put(NINE, minutes(*arrived))
        await analytics.refresh(at_hand=at_hand)
        assert_published(analytics)
    assert pieces(analytics) == [[0], [1], [2, 3]]
    assert [key[-12:] for key in asked] == ["09-01-00.txt", "09-02-00.txt", "09-03-00.txt"]


async def test_a_segment_that_is_no_longer_the_newest_is_put_together(analytics: Analytics) -> None:
    for arrived in ((0,), (0, 1)):
        await analytics.layer.put(NINE, minutes(*arrived))
        await analytics.refresh()
    await analytics.layer.put_hour(10, *minutes(0, hour=10))
    await analytics.refresh()
    assert pieces(analytics) == [[0, 1]]
    assert_published(analytics)


async def test_pieces_do_not_become_many(analytics: Analytics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bikeflow.warehouse.working.MOST_PIECES", 3)
    found = []
    for last in range(7):
        await analytics.layer.put(NINE, minutes(*range(last + 1)))
        await analytics.refresh()
        assert_published(analytics)
        found.append(len(pieces(analytics)))
    assert found == [1, 2, 3, 1, 2, 3, 1]


async def test_other_rules_for_what_was_there_are_seen(analytics: Analytics) -> None:
    """A raw file is what it was, its rows are not: only the recipe tells."""
    await analytics.layer.put(NINE, minutes(0))
    await analytics.refresh()
    rows = minutes(0, quality_flags=["over_capacity"]) + minutes(1)
    await analytics.layer.put(NINE, rows, data=parquet(NINE, rows, recipe="other rules"))
    await analytics.refresh()
    assert_published(analytics)


async def test_a_footer_that_does_not_tell_the_recipe_is_not_relied_on(analytics: Analytics) -> None:
    for arrived, flags in (((0,), []), ((0, 1), ["over_capacity"])):
        rows = minutes(*arrived, quality_flags=flags)
        await analytics.layer.put(NINE, rows, data=parquet(NINE, rows, recipe=""))
        await analytics.refresh()
        assert_published(analytics)


async def test_a_new_process_reads_the_open_segment_whole_and_then_piece_by_piece(analytics: Analytics) -> None:
    for arrived in ((0,), (0, 1)):
        await analytics.layer.put(NINE, minutes(*arrived))
        await analytics.refresh()
    again = analytics.reopened()
    assert (await again.refresh()).changed == 0
    for last, expected in ((2, [[0, 1, 2]]), (3, [[0, 1, 2], [3]])):
        await again.layer.put(NINE, minutes(*range(last + 1)))
        await again.refresh()
        assert pieces(again) == expected
        assert_published(again)
    again.warehouse.close()


async def test_a_lost_piece_is_read_again(analytics: Analytics) -> None:
    for arrived in ((0,), (0, 1), (0, 1, 2)):
        await analytics.layer.put(NINE, minutes(*arrived))
        await analytics.refresh()
    kept = {path.name for path in analytics.data_dir.glob("mirror/kept/*/station_hours/dt=2*/*.parquet")}
    lost = sorted(kept - {path.name for path in analytics.mirror.files.values()})[0]
    again = analytics.reopened()
    for path in analytics.data_dir.glob(f"mirror/kept/*/*/dt=2*/{lost}"):
        path.unlink()
    assert (await again.refresh()).changed == 1
    assert_published(again)
    again.warehouse.close()


@dataclass(frozen=True)
class Written:
    """A raw file appears or is overwritten; its rows may be minutes older than it, which reverses their order.

    `at_hand` says that its segment's rows are still in memory.
    """

    minute: int
    stations: int
    bikes: int
    minutes_old: int
    at_hand: bool


@dataclass(frozen=True)
class Vanished:
    """A raw file vanishes."""

    minute: int


class Restarted:
    """The process ends, and another begins."""


MINUTES = st.integers(0, 5)
WRITTEN = st.builds(Written, MINUTES, st.integers(1, 3), st.integers(0, 2), st.sampled_from([0, 0, 2]), st.booleans())
STEPS = st.lists(st.one_of(WRITTEN, WRITTEN, st.builds(Vanished, MINUTES), st.builds(Restarted)), max_size=6)


@settings(max_examples=rounds(4, 12))
@given(STEPS)
async def test_whatever_happens_to_the_open_segment_the_tables_agree_with_plain_python(
    steps: list[Written | Vanished | Restarted],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with open_analytics(Path(directory)) as analytics:
            raw_files: dict[int, list[Row]] = {}
            for step in steps:
                in_memory = False
                match step:
                    case Written(minute, stations, bikes, minutes_old, in_memory):
                        raw_files[minute] = minutes(minute, bikes=bikes, spaces=2 - bikes)[-stations:]
                        for item in raw_files[minute]:
                            item["timestamp"] -= dt.timedelta(minutes=minutes_old)
                    case Vanished(minute):
                        raw_files.pop(minute, None)
                    case Restarted():
                        analytics.warehouse.close()
                if raw_files:
                    await analytics.layer.put(NINE, [item for rows in raw_files.values() for item in rows])
                elif analytics.layer.wanted:
                    await analytics.layer.remove(NINE)
                await (analytics.refresh(at_hand=read) if in_memory else analytics.refresh())
                assert_published(analytics)
