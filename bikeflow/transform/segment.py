"""A segment's rows in memory and as Parquet files: sorted, compressed, with a footer that names their raw files.

The bytes are a pure function of the raw files (and of this program's version): no clock, no order of arrival. A segment
can be made from raw files, from segments written before, or from both: the result is the same.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bikeflow import __version__
from bikeflow.layout import Layer
from bikeflow.model import Segment
from bikeflow.schema import ENCODED, ENHANCED, PROCESSED
from bikeflow.transform.parsing import ParsedFile

ROW_GROUP_ROWS = 256 * 1024
FOOTER_READ_BYTES = 512 * 1024
"""How much of a file's end holds the footer of a usual segment."""

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
_VERSION, _SEGMENT, _FILES = b"bikeflow.version", b"bikeflow.segment", b"bikeflow.files"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a segment's footer tells of one raw file: identity, and the conservation record."""

    key: str
    size: int
    md5: str
    lines: int
    rows: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Footer:
    """The provenance that a segment's file carries."""

    version: str
    segment: Segment
    files: tuple[FileRecord, ...]


@dataclass(frozen=True, slots=True)
class SegmentTable:
    """A segment's rows (columns `ENCODED`), sorted by station_id, timestamp and raw file, and where they come from."""

    table: pa.Table
    files: tuple[FileRecord, ...]


def merge(keys: Collection[str], bases: Iterable[SegmentTable], parsed: Sequence[ParsedFile]) -> SegmentTable:
    """The rows of the raw files `keys`: freshly parsed where they are in `parsed`, else as they lie in `bases`."""
    fresh = {item.raw.key for item in parsed}
    kept = set(keys) - fresh
    records = [_record(item) for item in parsed]
    tables = [item.table for item in parsed]
    for base in bases:
        mine = [record for record in base.files if record.key in kept]
        records += mine
        tables.append(base.table if len(mine) == len(base.files) else _only(base.table, {item.key for item in mine}))
    table = pa.concat_tables([ENCODED.empty_table(), *tables]).unify_dictionaries().combine_chunks()
    return SegmentTable(_sorted(table), tuple(sorted(records, key=lambda record: record.key)))


def encode(segment: Segment, content: SegmentTable) -> dict[Layer, bytes]:
    """Both layers' Parquet files; empty where there is no row: nothing empty is published."""
    if not content.table.num_rows:
        return {}
    span = f"{segment.partition:%Y-%m-%d} {segment.start:%H:%M:%S} {segment.end:%H:%M:%S}"
    files = json.dumps([asdict(record) for record in content.files], ensure_ascii=False)
    footer = {_VERSION: __version__.encode(), _SEGMENT: span.encode(), _FILES: files.encode()}
    return {layer: _write(content.table, layer, footer) for layer in _SCHEMAS}


def decode(data: bytes) -> SegmentTable | None:
    """The rows of an enhanced-layer file, or None where it is not bikeflow's; raises pyarrow.ArrowInvalid, OSError."""
    footer = read_footer(data)
    if footer is None:
        return None
    dictionaries = [field.name for field in ENCODED if pa.types.is_dictionary(field.type)]
    table = pq.read_table(pa.BufferReader(data), read_dictionary=dictionaries, partitioning=None)
    return SegmentTable(table.replace_schema_metadata(None).cast(ENCODED), footer.files)


def read_footer(tail: bytes) -> Footer | None:
    """The provenance in a Parquet file (or in its last bytes), or None where it is not bikeflow's.

    Raises pyarrow.ArrowInvalid where it is no Parquet file, or its footer is larger than what was given.
    """
    metadata = pq.read_metadata(pa.BufferReader(tail)).metadata or {}
    if _FILES not in metadata or _SEGMENT not in metadata:
        return None
    day, start, end = metadata[_SEGMENT].decode().split(" ")
    segment = Segment(dt.date.fromisoformat(day), dt.time.fromisoformat(start), dt.time.fromisoformat(end))
    files = tuple(FileRecord(**item) for item in json.loads(metadata[_FILES]))
    return Footer(metadata[_VERSION].decode(), segment, files)


def _record(parsed: ParsedFile) -> FileRecord:
    return FileRecord(parsed.raw.key, parsed.raw.size, parsed.md5, parsed.lines, parsed.rows, parsed.rejected)


def _only(table: pa.Table, keys: Collection[str]) -> pa.Table:
    return table.filter(pc.is_in(table["s3_source_key"].cast(pa.string()), pa.array(keys, pa.string())))


def _sorted(table: pa.Table) -> pa.Table:
    """By station_id, timestamp and raw file: a total order, as a file holds each id once.

    The dictionaries come out sorted too, and without texts that no row uses: they are part of the bytes.
    """
    for position, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(position, field, _canonical(table[position].combine_chunks()))
    keys = (
        table["s3_source_key"].chunk(0).indices.to_numpy(),
        table["timestamp"].cast(pa.int64()).to_numpy(),
        table["station_id"].chunk(0).indices.to_numpy(),
    )
    return table.take(pa.array(np.lexsort(keys)))


def _canonical(column: pa.DictionaryArray) -> pa.DictionaryArray:
    """The same texts with a sorted dictionary, in code point order."""
    used, position = np.unique(column.indices.to_numpy(), return_inverse=True)
    texts = column.dictionary.take(pa.array(used)).to_pylist()
    order = np.argsort(np.array(texts, dtype=object), kind="stable")
    rank = np.empty(len(texts), dtype=np.int32)
    rank[order] = np.arange(len(texts), dtype=np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(rank[position]), pa.array([texts[n] for n in order], pa.string()))


def _write(table: pa.Table, layer: Layer, footer: dict[bytes, bytes]) -> bytes:
    names = _SCHEMAS[layer].names
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        pa.schema([ENCODED.field(name) for name in names]),
        compression="zstd",
        use_dictionary=_DICTIONARY[layer],
        column_encoding=_TIMES[layer],
        store_schema=False,
    ) as writer:
        writer.write_table(table.select(names), row_group_size=ROW_GROUP_ROWS)
        writer.add_key_value_metadata(footer)
    return sink.getvalue().to_pybytes()
