"""A segment's files: the same bytes from the same raw files, in whatever pieces and order they come."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bikeflow.layout import LAYERS, Layout
from bikeflow.model import UTC, ObjectInfo, Segment
from bikeflow.settings.sections import RulesSettings
from bikeflow.transform import segment as segments
from bikeflow.transform.parsing import ParsedFile, RawText, parse_files
from bikeflow.transform.segment import SegmentTable, collect, read, write
from tests.support.lines import raw_file, station
from tests.support.rounds import rounds

LAYOUT = Layout("bike-data/gen_info/")
FIRST = dt.datetime(2025, 5, 31, 13, 0, 0, tzinfo=UTC)
HOUR = Segment(dt.date(2025, 5, 31), dt.time(13, 0, 0), dt.time(13, 59, 59))


def parsed(number: int, lines: list[str]) -> ParsedFile:
    """The raw file with this number, as parsed."""
    key = LAYOUT.raw_key(FIRST + dt.timedelta(seconds=30 * number))
    raw = LAYOUT.raw_file(ObjectInfo(key, 1, "etag", FIRST))
    assert raw is not None
    (item,) = parse_files([RawText(raw, f"md5 {number}", raw_file(*lines).encode())], RulesSettings())
    return item


def keys(files: list[ParsedFile]) -> set[str]:
    return {item.raw.key for item in files}


@st.composite
def snapshots(draw: st.DrawFn) -> list[ParsedFile]:
    """Files of a few stations each, whose times may stand still, go back, or be those of another file."""
    files = []
    for number in range(draw(st.integers(1, 6))):
        ids = draw(st.lists(st.integers(1, 7), unique=True, max_size=7))
        seconds = [draw(st.integers(1748699400, 1748699403)) for _ in ids]
        bikes = draw(st.sampled_from(["5", "40000"]))  # one that needs 32 bits, too
        lines = [station(n, packed=f"{at}|-7200|-3600", bikes=bikes) for n, at in zip(ids, seconds, strict=True)]
        files.append(parsed(number, lines))
    return files


@settings(max_examples=rounds(40, 150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=snapshots(), data=st.data(), rows=st.sampled_from([1, 3, 1000]))
def test_the_bytes_do_not_depend_on_the_pieces_that_a_segment_is_made_of(
    files: list[ParsedFile], data: st.DataObject, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "ROW_GROUP_ROWS", rows)
    whole = write(HOUR, keys(files), [collect(files)])
    order = data.draw(st.permutations(files))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(files)), max_size=3)))
    pieces = [order[start:end] for start, end in pairwise([0, *cuts, len(order)])]
    gone = parsed(99, [station(9)])  # a raw file that a base still knows, with a station of its own
    bases = []
    for piece in filter(None, pieces):
        known = [*piece, gone] if data.draw(st.booleans()) else piece
        bases.append(written_before(known) if data.draw(st.booleans()) else collect(known))
    again = write(HOUR, keys(files), bases)
    assert again.data == whole.data
    assert again.files == whole.files
    if whole.data:
        check(whole.data["enhanced"], files, rows)


def written_before(files: list[ParsedFile]) -> SegmentTable:
    """The same rows, read back from a file that was made of them."""
    written = write(HOUR, keys(files), [collect(files)])
    found = read(written.data["enhanced"]) if written.data else collect(files)
    assert found is not None
    return found


def check(data: bytes, files: list[ParsedFile], group_rows: int) -> None:
    """Every row once, in order, and no station in two row groups; a full group ends with the station that fills it."""
    found = pq.ParquetFile(pa.BufferReader(data))
    rows = found.read().to_pylist()
    order = [(row["station_id"], row["timestamp"], row["s3_source_key"]) for row in rows]
    assert order == sorted(order)
    assert Counter(order) == Counter(
        (row["station_id"], row["timestamp"], row["s3_source_key"]) for item in files for row in item.table.to_pylist()
    )
    groups = [found.read_row_group(n)["station_id"].to_pylist() for n in range(found.num_row_groups)]
    assert all(one[-1] < other[0] for one, other in pairwise(groups))
    for ids in groups[:-1]:
        assert len(ids) >= group_rows > len(ids) - ids.count(ids[-1])


def test_raw_files_without_rows_give_no_parquet_file() -> None:
    files = [parsed(0, ["bad"]), parsed(1, [])]
    written = write(HOUR, keys(files), [collect(files)])
    assert written.data == {}
    assert [(item.lines, item.rows, item.rejected) for item in written.files] == [(1, 0, 1), (0, 0, 0)]


@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_rows_of_raw_files_that_are_no_longer_wanted_go_and_so_do_their_stations(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "ROW_GROUP_ROWS", rows)
    gone, *files = [parsed(0, [station(0), station(5), station(9)]), parsed(1, [station(1), station(6)])]
    written = write(HOUR, keys(files), [written_before([gone, *files])])
    assert written.data == write(HOUR, keys(files), [collect(files)]).data


def test_of_two_bases_that_know_a_raw_file_the_first_counts() -> None:
    old, new = parsed(0, [station(1, bikes="1")]), parsed(0, [station(1, bikes="2")])
    written = write(HOUR, keys([new]), [collect([new]), collect([old])])
    for layer in LAYERS:
        assert pq.read_table(pa.BufferReader(written.data[layer]))["bikes"].to_pylist() == [2]
