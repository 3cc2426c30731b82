"""The provenance in a Parquet file's footer: whose file it is, what it covers, which raw files it is made of."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import Enum
from operator import attrgetter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bikeflow import __version__
from bikeflow.core.model import FileRecord, Partition, Segment
from bikeflow.store.base import Store

UNREADABLE = (pa.ArrowException, OSError, ValueError, LookupError, TypeError)
"""What reading a damaged file may raise."""

_TAIL_BYTES = 512 * 1024
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


class NotOurs(Enum):
    """Why an object has no provenance of ours."""

    FOREIGN = "a Parquet file that bikeflow did not write"
    DAMAGED = "no whole Parquet file"


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


def read_footer(source: bytes | Path, system_id: str = "") -> Footer | None:
    """The provenance in a Parquet file (or in its last bytes), or None where it is not bikeflow's.

    `system_id` is that of the system below whose prefix the file lies; a footer from before systems were told has none.
    Raises one of `UNREADABLE` where it is no Parquet file, its footer is damaged or larger than what was given.
    """
    metadata = pq.read_metadata(pa.BufferReader(source) if isinstance(source, bytes) else source).metadata or {}
    if _FILES not in metadata or _SEGMENT not in metadata:
        return None
    day, start, end = metadata[_SEGMENT].decode().split(" ")
    partition = Partition(metadata.get(_SYSTEM, system_id.encode()).decode(), dt.date.fromisoformat(day))
    segment = Segment(partition, dt.time.fromisoformat(start), dt.time.fromisoformat(end))
    files = tuple(FileRecord(**item) for item in json.loads(metadata[_FILES]))
    return Footer(metadata[_VERSION].decode(), segment, files)


async def read_provenance(store: Store, key: str, system_id: str) -> Footer | NotOurs:
    """The footer of a system's file, read from its end where that is enough; raises what the store raises."""
    tail = await store.get(key, last_bytes=_TAIL_BYTES)
    try:
        footer = await asyncio.to_thread(read_footer, tail.data, system_id)
    except UNREADABLE:
        if tail.info.size <= _TAIL_BYTES:
            return NotOurs.DAMAGED
        whole = await store.get(key)
        try:
            footer = await asyncio.to_thread(read_footer, whole.data, system_id)
        except UNREADABLE:
            return NotOurs.DAMAGED
    return footer or NotOurs.FOREIGN
