"""A segment's rows as Parquet files: sorted, compressed, with a footer that names their raw files.

The bytes are a pure function of the raw files (and of this program's version): no clock, no order of arrival. A segment
can be made from raw files, from segments written before, or from both: the result is the same. A day of millions of
rows is merged station by station, so that memory holds its inputs but never a second copy.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bikeflow.layout import LAYERS, Layer
from bikeflow.model import Segment
from bikeflow.schema import ENCODED, ENHANCED, PROCESSED
from bikeflow.transform.footer import FileRecord, footer_metadata, read_footer
from bikeflow.transform.parsing import ParsedFile

ROW_GROUP_ROWS = 128 * 1024
"""A row group ends with the station that fills it: one station's rows are a small read."""

_NARROW = 1 << 15

_SCHEMAS: dict[Layer, pa.Schema] = {"processed": PROCESSED, "enhanced": ENHANCED}
# Times grow steadily within a station: as differences they take a fifth of what plain ones or dictionaries do.
_TIMES = {
    layer: {field.name: "DELTA_BINARY_PACKED" for field in schema if pa.types.is_timestamp(field.type)}
    for layer, schema in _SCHEMAS.items()
}
# All others have few distinct values: as dictionaries they are smaller, and quicker to write and read.
_DICTIONARY = {
    layer: [name for name in schema.names if name != "quality_flags" and name not in _TIMES[layer]]
    for layer, schema in _SCHEMAS.items()
}


@dataclass(frozen=True, slots=True)
class SegmentTable:
    """A segment's rows, sorted by station_id, timestamp and raw file, and where they come from.

    The columns are those of `ENCODED`, but whole numbers may be narrower: days of rows are held at once.
    """

    table: pa.Table
    files: tuple[FileRecord, ...]


@dataclass(frozen=True, slots=True)
class SegmentFiles:
    """Both layers' Parquet files (none where there is no row: nothing empty is published), and what they are made of.

    `content` holds the rows once more, for the next arrival, unless they were too many for one row group.
    """

    data: dict[Layer, bytes]
    files: tuple[FileRecord, ...]
    content: SegmentTable | None


def collect(parsed: Sequence[ParsedFile]) -> SegmentTable:
    """The rows of freshly parsed files."""
    return SegmentTable(_narrowed(_sorted([item.table for item in parsed])), tuple(_record(item) for item in parsed))


def write(segment: Segment, keys: Collection[str], bases: Iterable[SegmentTable]) -> SegmentFiles:
    """The files of a segment that holds the raw files `keys`, each as the first of `bases` knows it."""
    inputs, files = _inputs(keys, bases)
    spans = _spans(inputs)
    if not spans:
        return SegmentFiles({}, files, SegmentTable(ENCODED.empty_table(), files))
    writers = {layer: _LayerWriter(layer) for layer in LAYERS}
    # Arrow lets go of the interpreter while it encodes and compresses.
    with ThreadPoolExecutor(len(LAYERS)) as pool:
        for first, last in spans:
            table = _sorted([_slice(item, first, last) for item in inputs])
            for future in [pool.submit(writer.add, table) for writer in writers.values()]:
                future.result()
    metadata = footer_metadata(segment, files)
    data = {layer: writer.finish(metadata) for layer, writer in writers.items()}
    return SegmentFiles(data, files, SegmentTable(table, files) if len(spans) == 1 else None)


def read(data: bytes) -> SegmentTable | None:
    """The rows of an enhanced-layer file, or None where it is not bikeflow's; raises pyarrow.ArrowInvalid, OSError."""
    footer = read_footer(data)
    if footer is None:
        return None
    dictionaries = [field.name for field in ENCODED if pa.types.is_dictionary(field.type)]
    table = pq.read_table(pa.BufferReader(data), read_dictionary=dictionaries, partitioning=None)
    return SegmentTable(_narrowed(_canonical(table.replace_schema_metadata(None).cast(ENCODED))), footer.files)


class _LayerWriter:
    """One layer's file, row group by row group."""

    def __init__(self, layer: Layer) -> None:
        self._names = _SCHEMAS[layer].names
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(
            self._sink,
            pa.schema([ENCODED.field(name) for name in self._names]),
            compression="zstd",
            use_dictionary=_DICTIONARY[layer],
            column_encoding=_TIMES[layer],
            store_schema=False,
        )

    def add(self, table: pa.Table) -> None:
        self._writer.write_table(table.select(self._names), row_group_size=max(table.num_rows, 1))

    def finish(self, metadata: dict[bytes, bytes]) -> bytes:
        self._writer.add_key_value_metadata(metadata)
        self._writer.close()
        data: bytes = self._sink.getvalue().to_pybytes()
        return data


def _inputs(keys: Collection[str], bases: Iterable[SegmentTable]) -> tuple[list[pa.Table], tuple[FileRecord, ...]]:
    """Tables sorted by station that together hold each wanted raw file once, and the records of those files."""
    files: list[FileRecord] = []
    tables: list[pa.Table] = []
    missing = set(keys)
    for base in bases:
        mine = [record for record in base.files if record.key in missing]
        missing -= {record.key for record in mine}
        files += mine
        tables.append(base.table if len(mine) == len(base.files) else _only(base.table, [item.key for item in mine]))
    return tables, tuple(sorted(files, key=lambda record: record.key))


def _record(parsed: ParsedFile) -> FileRecord:
    return FileRecord(parsed.raw.key, parsed.raw.size, parsed.md5, parsed.lines, parsed.rows, parsed.rejected)


def _only(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    return table.filter(pc.is_in(table["s3_source_key"].cast(pa.string()), pa.array(keys, pa.string())))


def _spans(tables: Iterable[pa.Table]) -> list[tuple[str, str]]:
    """First and last station of each row group: a pure function of how many rows each station has."""
    counts: Counter[str] = Counter()
    for table in tables:
        for item in pc.value_counts(table["station_id"].cast(pa.string())).to_pylist():
            counts[item["values"]] += item["counts"]
    spans: list[tuple[str, str]] = []
    first, rows = None, 0
    for station in sorted(counts):
        first, rows = first if first is not None else station, rows + counts[station]
        if rows >= ROW_GROUP_ROWS:
            spans.append((first, station))
            first, rows = None, 0
    return [*spans, (first, station)] if first is not None else spans


def _slice(table: pa.Table, first: str, last: str) -> pa.Table:
    """The rows of a range of stations (columns `ENCODED`), both ends included; both table and dictionary are sorted."""
    if not table.num_rows:
        return ENCODED.empty_table()
    column = table["station_id"].combine_chunks()
    stations, indices = column.dictionary.to_pylist(), column.indices.to_numpy()
    start = np.searchsorted(indices, bisect_left(stations, first), side="left")
    end = np.searchsorted(indices, bisect_right(stations, last), side="left")
    return table.slice(int(start), int(end - start)).cast(ENCODED)


def _narrowed(table: pa.Table) -> pa.Table:
    """The same with 16-bit whole numbers where they all fit, as they nearly always do."""
    for position, field in enumerate(table.schema):
        if table.num_rows and field.type == pa.int64():
            ends = pc.min_max(table[position])
            if all(end is None or abs(end) < _NARROW for end in ends.as_py().values()):
                table = table.set_column(position, field.name, table[position].cast(pa.int16()))
    return table


def _sorted(tables: Sequence[pa.Table]) -> pa.Table:
    """By station_id, timestamp and raw file: a total order, as a file holds each id once."""
    table = _canonical(pa.concat_tables([ENCODED.empty_table(), *tables]).unify_dictionaries())
    return table.take(pa.array(_order(table))) if table.num_rows else table


def _order(table: pa.Table) -> npt.NDArray[np.intp]:
    """Positions of the rows in their order; dictionaries are sorted, so that indices sort as their texts."""
    station = table["station_id"].chunk(0).indices.to_numpy().astype(np.int64)
    time = table["timestamp"].cast(pa.int64()).to_numpy()
    first, last = int(time.min()), int(time.max())
    if int(station.max() + 1) * (last - first + 1) < 1 << 63:
        # One key that is nearly in order already, where a snapshot comes to an hour: a merge, and no sorting anew.
        key = station * (last - first + 1) + (time - first)
        order = np.argsort(key, kind="stable")
        if (np.diff(key[order]) > 0).all():
            return order
    return np.lexsort((table["s3_source_key"].chunk(0).indices.to_numpy(), time, station))


def _canonical(table: pa.Table) -> pa.Table:
    """The same rows in one chunk, with sorted dictionaries of just the texts in use: they are part of the bytes."""
    table = table.combine_chunks() if table.num_rows else ENCODED.empty_table()
    for position, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(position, field, _sorted_dictionary(table[position].combine_chunks()))
    return table


def _sorted_dictionary(column: pa.DictionaryArray) -> pa.DictionaryArray:
    indices = column.indices.to_numpy()
    used = np.flatnonzero(np.bincount(indices, minlength=len(column.dictionary)))
    texts = column.dictionary.take(pa.array(used)).to_pylist()
    order = sorted(range(len(texts)), key=texts.__getitem__)
    rank = np.zeros(len(column.dictionary), dtype=np.int32)
    rank[used[order]] = np.arange(len(texts), dtype=np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(rank[indices]), pa.array([texts[n] for n in order], pa.string()))
