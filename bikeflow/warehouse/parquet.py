"""What the warehouse knows about Parquet: a whole file's looks, what a footer tells, how to write an empty one."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bikeflow.core.model import FileRecord
from bikeflow.core.schema import ADDED, ENHANCED
from bikeflow.runtime.files import remove, write_whole
from bikeflow.runtime.log import get_logger
from bikeflow.segments.footer import UNREADABLE, read_footer

log = get_logger()
_MAGIC = b"PAR1"


def is_whole(path: str | Path) -> bool:
    """True where the file begins and ends as Parquet does: a cheap look, for one bad file would fail every query."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a start looks at thousands, as plain strings
        head = file.read(len(_MAGIC))
        end = file.seek(0, 2)
        file.seek(max(end - len(_MAGIC), 0))
        return end > 2 * len(_MAGIC) and head == _MAGIC == file.read()


def swept(root: Path) -> dict[str, int]:
    """The sizes of the Parquet files in the folders `system_id=*/*`, by path from `root`; all else there is removed.

    What is removed is left of a crash, or damaged.
    """
    found = {}
    for directory in root.glob("system_id=*/*"):
        for entry in os.scandir(directory) if directory.is_dir() else ():
            name = entry.name
            if name.endswith(".parquet") and not name.startswith(".") and entry.is_file() and is_whole(entry.path):
                found[f"{directory.parent.name}/{directory.name}/{name}"] = entry.stat().st_size
            else:
                log.info("mirror_cleaned", path=entry.path)
                remove(Path(entry.path))
        if not directory.is_dir():
            log.info("mirror_cleaned", path=str(directory))
            remove(directory)
    return found


def lacks_columns(path: Path) -> bool:
    """Whether a file of the enhanced layer is of a version that knew fewer columns."""
    try:
        return not set(ADDED).issubset(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        return False


def raw_file_records(path: Path) -> tuple[FileRecord, ...]:
    """What a segment's footer tells of each of its raw files; nothing where it can't be read."""
    try:
        footer = read_footer(path)
    except UNREADABLE:
        return ()
    return () if footer is None else footer.files


def write_empty(path: Path, schema: pa.Schema = ENHANCED) -> None:
    """Make `path` a file of this schema without rows; it is left alone where it is that already."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink, store_schema=False)
    data = sink.getvalue().to_pybytes()
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)
