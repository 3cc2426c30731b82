"""What the warehouse knows about Parquet: a whole file's looks, what a footer tells, how to write an empty one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bikeflow.core.schema import ENHANCED
from bikeflow.runtime.files import hidden, remove
from bikeflow.runtime.log import get_logger

Records = Mapping[str, Mapping[str, object]]
"""What a segment's footer tells of each of its raw files, by key."""

log = get_logger()
_MAGIC = b"PAR1"
_RAW_FILES = b"bikeflow.files"


def is_whole(path: str | Path) -> bool:
    """True where the file begins and ends as Parquet does: a cheap look, for one bad file would fail every query."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a start looks at thousands, as plain strings
        head = file.read(len(_MAGIC))
        end = file.seek(0, 2)
        file.seek(max(end - len(_MAGIC), 0))
        return end > 2 * len(_MAGIC) and head == _MAGIC == file.read()


def swept(root: Path) -> dict[str, int]:
    """The sizes of the Parquet files one level below `root`, by path from there; all else there is removed.

    It is the trace of a crash, or damage.
    """
    found = {}
    for directory in os.scandir(root):
        for entry in os.scandir(directory.path) if directory.is_dir() else ():
            name = entry.name
            if name.endswith(".parquet") and not name.startswith(".") and entry.is_file() and is_whole(entry.path):
                found[f"{directory.name}/{name}"] = entry.stat().st_size
            else:
                log.info("mirror_cleaned", path=entry.path)
                remove(Path(entry.path))
    return found


def raw_file_records(path: Path) -> Records:
    """What a segment's footer tells of each of its raw files, by key; nothing where it is not to be read."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
        return {record["key"]: record for record in json.loads(metadata.get(_RAW_FILES, b"[]"))}
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError):
        return {}


def write_empty(path: Path) -> None:
    """Make `path` a file of the enhanced layer without rows; it is left alone where it is that already."""
    sink = pa.BufferOutputStream()
    pq.write_table(ENHANCED.empty_table(), sink, store_schema=False)
    data = sink.getvalue().to_pybytes()
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = hidden(path)
    part.write_bytes(data)
    part.replace(path)
