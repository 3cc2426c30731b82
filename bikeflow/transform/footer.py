"""The provenance in a Parquet file's footer: whose file it is, what it covers, which raw files it is made of."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from operator import attrgetter

import pyarrow as pa
import pyarrow.parquet as pq

from bikeflow import __version__
from bikeflow.model import Segment

FOOTER_READ_BYTES = 512 * 1024
"""How much of a file's end holds the footer of a usual segment."""

_VERSION, _SEGMENT, _FILES = b"bikeflow.version", b"bikeflow.segment", b"bikeflow.files"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a footer tells of one raw file: identity, and the conservation record (lines = rows + rejected).

    `recipe` tells the rules under which its rows were flagged (see `recipe`); files from before it was told have none.
    """

    key: str
    size: int
    md5: str
    lines: int
    rows: int
    rejected: int
    recipe: str = ""


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
    span = f"{segment.partition} {segment.start:%H:%M:%S} {segment.end:%H:%M:%S}"
    # asdict() would copy each value, which takes longer than the rest of a small segment's footer
    records = json.dumps([dict(zip(_FIELDS, _VALUES(record), strict=True)) for record in files], ensure_ascii=False)
    return {_VERSION: __version__.encode(), _SEGMENT: span.encode(), _FILES: records.encode()}


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
