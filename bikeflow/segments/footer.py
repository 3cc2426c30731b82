"""The provenance in a Parquet file's footer: whose file it is, what it covers, which raw files it is made of."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bikeflow import __version__
from bikeflow.core.model import FileRecord, Partition, Segment

FOOTER_READ_BYTES = 512 * 1024
"""How much of a file's end holds the footer of a usual segment."""

_VERSION, _SYSTEM, _SEGMENT, _FILES = b"bikeflow.version", b"bikeflow.system", b"bikeflow.segment", b"bikeflow.files"


_FIELDS = tuple(field.name for field in fields(FileRecord))
_VALUES = attrgetter(*_FIELDS)


@dataclass(frozen=True, slots=True)
class Footer:
    """The provenance that a segment's file carries."""

    version: str
    segment: Segment
    files: tuple[FileRecord, ...]


def footer_metadata(segment: Segment, files: Iterable[FileRecord]) -> dict[bytes, bytes]:
    """Key-value metadata for a file's footer; `read_footer` reads it back."""
    span = f"{segment.partition.day.isoformat()} {segment.start:%H:%M:%S} {segment.end:%H:%M:%S}"
    # asdict() would copy each value, which takes longer than the rest of a small segment's footer
    records = json.dumps([dict(zip(_FIELDS, _VALUES(record), strict=True)) for record in files], ensure_ascii=False)
    return {
        _VERSION: __version__.encode(),
        _SYSTEM: segment.partition.system_id.encode(),
        _SEGMENT: span.encode(),
        _FILES: records.encode(),
    }


def read_footer(tail: bytes, system_id: str) -> Footer | None:
    """The provenance in a Parquet file (or in its last bytes), or None where it is not bikeflow's.

    `system_id` is that of the system below whose prefix the file lies; a footer from before systems were told has none.
    Raises pyarrow.ArrowInvalid where it is no Parquet file, or its footer is larger than what was given.
    """
    return _footer(pq.read_metadata(pa.BufferReader(tail)).metadata or {}, system_id)


def footer_of(path: Path, system_id: str = "") -> Footer | None:
    """The same of a file on this machine. Raises OSError, too."""
    return _footer(pq.read_metadata(path).metadata or {}, system_id)


def _footer(metadata: Mapping[bytes, bytes], system_id: str) -> Footer | None:
    if _FILES not in metadata or _SEGMENT not in metadata:
        return None
    day, start, end = metadata[_SEGMENT].decode().split(" ")
    partition = Partition(metadata.get(_SYSTEM, system_id.encode()).decode(), dt.date.fromisoformat(day))
    segment = Segment(partition, dt.time.fromisoformat(start), dt.time.fromisoformat(end))
    files = tuple(FileRecord(**item) for item in json.loads(metadata[_FILES]))
    return Footer(metadata[_VERSION].decode(), segment, files)
