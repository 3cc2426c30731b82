"""A segment's rows as Parquet files: sorted, compressed, with a footer that names their raw files.

The bytes are a pure function of the raw files (and of this program's version): no clock, no order of arrival. A segment
can be made from raw files, from segments written before, or from both: the result is the same. The rows of a day are
put in order row group by row group, so that memory holds its inputs but never a second copy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bikeflow.core.layout import LAYERS, Layer
from bikeflow.core.model import FileRecord, Segment
from bikeflow.core.schema import ENCODED, SCHEMAS, completed
from bikeflow.feeds.base import ParsedFile
from bikeflow.segments.footer import footer_metadata, read_footer

ROW_GROUP_ROWS = 128 * 1024
"""A row group ends with the station that fills it: one station's rows are a small read."""

_PAGE_BYTES = 16 * 1024 * 1024
_NARROW = 1 << 15

# Times grow steadily within a station: as differences they take a fifth of what plain ones or dictionaries do.
_TIMES = {
    layer: {field.name: "DELTA_BINARY_PACKED" for field in schema if pa.types.is_timestamp(field.type)}
    for layer, schema in SCHEMAS.items()
}
# These are the same in all rows of a station, or in all there are: plain, they shrink to nothing, and sooner.
_PLAIN = {"gmt_local_diff_sec", "gmt_servertime_diff_sec", "lat", "lon", "date", "quality_flags"}
# All others have few distinct values: as dictionaries they are smaller, and quicker to write and read.
_DICTIONARY = {
    layer: [name for name in schema.names if name not in _PLAIN and name not in _TIMES[layer]]
    for layer, schema in SCHEMAS.items()
}


@dataclass(frozen=True, slots=True)
class SegmentTable:
    """A segment's rows, raw file by raw file or in their order in the segment, and where they come from.

    The columns are those of `ENCODED`, but whole numbers may be narrower: days of rows are held at once.
    """

    table: pa.Table
    files: tuple[FileRecord, ...]


@dataclass(frozen=True, slots=True)
class SegmentFiles:
    """The layers' Parquet files (none where there is no row: nothing empty is published), and what they are made of.

    `content` holds the rows once more, for the next arrival, unless they were too many for one row group.
    """

    data: dict[Layer, bytes]
    files: tuple[FileRecord, ...]
    content: SegmentTable | None


def collect(parsed: Sequence[ParsedFile]) -> SegmentTable:
    """The rows of freshly parsed files."""
    tables = [ENCODED.empty_table(), *(item.table for item in parsed)]
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    records = (
        FileRecord(item.raw.key, item.raw.size, item.md5, item.lines, item.rows, item.rejected, item.recipe)
        for item in parsed
    )
    return SegmentTable(_narrowed(table), tuple(records))


def write(
    segment: Segment, keys: Collection[str], bases: Iterable[SegmentTable], layers: Sequence[Layer] = LAYERS
) -> SegmentFiles:
    """The files of a segment that holds the raw files `keys`, each as the first of `bases` knows it."""
    inputs, files = _inputs(keys, bases)
    table = _joined(inputs)
    if not table.num_rows:
        return SegmentFiles({}, files, SegmentTable(ENCODED.empty_table(), files))
    writers = {layer: _LayerWriter(layer) for layer in layers}
    groups = 0
    # Arrow lets go of the interpreter while it encodes and compresses; meanwhile the next row group is put in order.
    with ThreadPoolExecutor(len(LAYERS)) as pool:
        encoding: list[Future[None]] = []
        for rows in _row_groups(table):
            group = _in_order(_canonical(rows.combine_chunks()))
            _finish(encoding)
            wide = group.cast(ENCODED)
            encoding = [pool.submit(writer.add, wide) for writer in writers.values()]
            groups += 1
        _finish(encoding)
    metadata = footer_metadata(segment, files)
    data = {layer: writer.finish(metadata) for layer, writer in writers.items()}
    return SegmentFiles(data, files, SegmentTable(group, files) if groups == 1 else None)


def read(data: bytes, system_id: str) -> SegmentTable | None:
    """The rows of an enhanced file of a system, or None where it is not ours; raises pyarrow.ArrowInvalid, OSError."""
    footer = read_footer(data, system_id)
    if footer is None:
        return None
    texts = {field.name for field in ENCODED if pa.types.is_dictionary(field.type)}
    dictionaries = [name for name in pq.read_schema(pa.BufferReader(data)).names if name in texts]
    table = pq.ParquetFile(pa.BufferReader(data), read_dictionary=dictionaries).read()
    table = completed(table.replace_schema_metadata(None)).cast(ENCODED).unify_dictionaries().combine_chunks()
    return SegmentTable(_narrowed(table), footer.files)


class _LayerWriter:
    """One layer's file, row group by row group."""

    def __init__(self, layer: Layer) -> None:
        self._schema = pa.schema([ENCODED.field(name) for name in SCHEMAS[layer].names])
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(
            self._sink,
            self._schema,
            compression="zstd",
            use_dictionary=_DICTIONARY[layer],
            column_encoding=_TIMES[layer],
            store_schema=False,
            # A column of a row group is one page: less to begin and end, and a sixth smaller.
            write_batch_size=ROW_GROUP_ROWS,
            max_rows_per_page=2 * ROW_GROUP_ROWS,
            data_page_size=_PAGE_BYTES,
        )

    def add(self, table: pa.Table) -> None:
        self._writer.write_table(table.select(self._schema.names), row_group_size=max(table.num_rows, 1))

    def finish(self, metadata: dict[bytes, bytes]) -> bytes:
        self._writer.add_key_value_metadata(metadata)
        self._writer.close()
        data: bytes = self._sink.getvalue().to_pybytes()
        return data


def _inputs(keys: Collection[str], bases: Iterable[SegmentTable]) -> tuple[list[pa.Table], tuple[FileRecord, ...]]:
    """Tables that together hold each wanted raw file once, the earlier files first, and the records of those files."""
    files: list[FileRecord] = []
    tables: list[tuple[str, pa.Table]] = []
    missing = set(keys)
    for base in bases:
        mine = [record for record in base.files if record.key in missing]
        missing -= {record.key for record in mine}
        files += mine
        names = [record.key for record in mine]
        if mine:
            tables.append((min(names), base.table if len(mine) == len(base.files) else _only(base.table, names)))
    in_order = [table for _, table in sorted(tables, key=lambda item: item[0])]
    return in_order, tuple(sorted(files, key=lambda record: record.key))


def _only(table: pa.Table, keys: Collection[str]) -> pa.Table:
    source = table["s3_source_key"].combine_chunks()
    wanted = [code for code, key in enumerate(source.dictionary.to_pylist()) if key in keys]
    return table.take(pa.array(np.flatnonzero(np.isin(source.indices.to_numpy(), wanted))))


def _row_groups(table: pa.Table) -> Iterator[pa.Table]:
    """The rows of each row group, in no order.

    A row group ends with the station that fills it: a pure function of how many rows each station has.
    """
    batches = table.to_batches()
    names = table["station_id"].chunk(0).dictionary
    rank = np.empty(len(names), dtype=np.int32)
    rank[pc.sort_indices(names).to_numpy()] = np.arange(len(names))
    stations = [rank[batch["station_id"].indices.to_numpy()] for batch in batches]
    counts = [np.bincount(station, minlength=len(names)) for station in stations]
    borders = _borders(np.sum(counts, axis=0))
    if len(borders) == 2:
        yield table
        return
    # Batch by batch, as taking rows from all of them at once would make a copy of all of them first.
    orders = [np.argsort(station, kind="stable").astype(np.int32) for station in stations]
    ends = [np.concatenate([[0], np.cumsum(count)]) for count in counts]
    for first, last in pairwise(borders):
        yield pa.Table.from_batches(
            [
                batch.take(pa.array(order[end[first] : end[last]]))
                for batch, order, end in zip(batches, orders, ends, strict=True)
            ]
        )


def _borders(counts: npt.NDArray[np.intp]) -> list[int]:
    """The first station of each row group, and the one after the last with rows; `counts` are their rows."""
    ends = np.cumsum(counts)
    borders, start, total = [0], 0, int(ends[-1])
    while start < total:
        last = int(np.searchsorted(ends, min(start + ROW_GROUP_ROWS, total)))
        borders.append(last + 1)
        start = int(ends[last])
    return borders


def _finish(encoding: Iterable[Future[None]]) -> None:
    for future in encoding:
        future.result()


def _narrowed(table: pa.Table) -> pa.Table:
    """The table with 16-bit whole numbers in the columns where they all fit: nearly always."""
    for position, field in enumerate(table.schema):
        if table.num_rows and field.type == pa.int64():
            ends = pc.min_max(table[position])
            if all(end is None or abs(end) < _NARROW for end in ends.as_py().values()):
                table = table.set_column(position, field.name, table[position].cast(pa.int16()))
    return table


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of all tables, a chunk for each; only columns of other widths are copied. Texts share dictionaries."""
    return pa.concat_tables(tables or [ENCODED.empty_table()], promote_options="permissive").unify_dictionaries()


def _in_order(table: pa.Table) -> pa.Table:
    """The rows sorted by station_id, timestamp and raw file: a total order, as a raw file holds each id once.

    A row without a timestamp comes first, as if it were of 1970.
    The dictionaries are sorted, so that indices sort as their texts.
    """
    station, file = (table[name].chunk(0).indices.to_numpy() for name in ("station_id", "s3_source_key"))
    time = table["timestamp"].chunk(0).cast(pa.int64()).fill_null(0).to_numpy()
    # Raw files come in the order of time, and so do the rows of a station, nearly always: numpy counts 16-bit numbers
    # into their places, which is quicker than any comparing.
    order = np.argsort(station.astype(np.uint16) if station.max() < 1 << 16 else station, kind="stable")
    ranked, at, source = station[order], time[order], file[order]
    later = (at[1:] > at[:-1]) | ((at[1:] == at[:-1]) & (source[1:] > source[:-1]))
    if not ((ranked[1:] > ranked[:-1]) | later).all():
        order = np.lexsort((file, time, station))
    return table.take(pa.array(order))


def _canonical(table: pa.Table) -> pa.Table:
    """The rows in one chunk, with sorted dictionaries of just the texts in use: they are part of the bytes."""
    for position, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(position, field, _sorted_dictionary(table[position].combine_chunks()))
    return table


def _sorted_dictionary(column: pa.DictionaryArray) -> pa.DictionaryArray:
    used = np.flatnonzero(np.bincount(column.indices.drop_null().to_numpy(), minlength=len(column.dictionary)))
    texts = column.dictionary.take(pa.array(used))
    order = pc.sort_indices(texts)
    rank = np.zeros(len(column.dictionary), dtype=np.int32)
    rank[used[order.to_numpy()]] = np.arange(len(used), dtype=np.int32)
    ranks = pa.array(rank).take(column.indices)  # null stays null
    return pa.DictionaryArray.from_arrays(ranks, texts.take(order))
