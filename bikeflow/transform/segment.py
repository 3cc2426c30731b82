"""A segment's Parquet files: sorted, compressed, with a footer that tells which raw files they come from.

The bytes are a pure function of the raw files (and of this program's version): no clock, no order of arrival.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bikeflow import __version__
from bikeflow.layout import Layer
from bikeflow.model import Segment
from bikeflow.schema import ENHANCED, PROCESSED
from bikeflow.transform.parsing import ParsedFile

ROW_GROUP_ROWS = 256 * 1024
FOOTER_READ_BYTES = 512 * 1024
"""How much of a file's end holds the footer of a usual segment."""

_SCHEMAS: dict[Layer, pa.Schema] = {"processed": PROCESSED, "enhanced": ENHANCED}
# Few distinct values each; the others only cost time and memory as dictionaries.
_DICTIONARY = {
    "processed": [name for name in PROCESSED.names if name not in ("timestamp",)],
    "enhanced": [name for name in ENHANCED.names if name not in ("timestamp", "quality_flags")],
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


def build(segment: Segment, parsed: Sequence[ParsedFile]) -> dict[Layer, bytes] | None:
    """Both layers' files of a segment, or None where its raw files gave no row: nothing empty is published."""
    parsed = sorted(parsed, key=lambda item: item.raw.key)
    table = _sorted(pa.concat_tables([item.table for item in parsed]))
    if not table.num_rows:
        return None
    records = tuple(
        FileRecord(item.raw.key, item.raw.size, item.md5, item.lines, item.rows, item.rejected) for item in parsed
    )
    footer = _encode(Footer(__version__, segment, records))
    return {layer: _write(table, layer, footer) for layer in _SCHEMAS}


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


def _encode(footer: Footer) -> dict[bytes, bytes]:
    segment = footer.segment
    span = f"{segment.partition:%Y-%m-%d} {segment.start:%H:%M:%S} {segment.end:%H:%M:%S}"
    files = json.dumps([asdict(record) for record in footer.files], ensure_ascii=False)
    return {_VERSION: footer.version.encode(), _SEGMENT: span.encode(), _FILES: files.encode()}


def _sorted(table: pa.Table) -> pa.Table:
    """By station_id and timestamp; rows alike in both keep the order of their file and line."""
    stations = table["station_id"].combine_chunks().dictionary_encode()
    names = np.array(stations.dictionary.to_pylist(), dtype=object)
    rank = np.empty(len(names), dtype=np.int64)
    rank[np.argsort(names, kind="stable")] = np.arange(len(names))
    station = rank[stations.indices.to_numpy()]
    return table.take(pa.array(np.lexsort((table["timestamp"].cast(pa.int64()).to_numpy(), station))))


def _write(table: pa.Table, layer: Layer, footer: dict[bytes, bytes]) -> bytes:
    schema = _SCHEMAS[layer]
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, schema, compression="zstd", use_dictionary=_DICTIONARY[layer], store_schema=False
    ) as writer:
        writer.write_table(table.select(schema.names), row_group_size=ROW_GROUP_ROWS)
        writer.add_key_value_metadata(footer)
    return sink.getvalue().to_pybytes()
