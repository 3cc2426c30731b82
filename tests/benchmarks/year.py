"""A year of history, a snapshot each ten minutes: what the next refresh and the usual questions cost.

The enhanced layer is that of one simulated day, taken through the pipeline and then copied to all other days with its
times and keys moved: 52,560 raw files through the pipeline would take an hour and show nothing of the database.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bikeflow.core.layout import segment_of
from bikeflow.core.model import SegmentObject, SegmentWritten
from bikeflow.core.schema import ENHANCED
from bikeflow.warehouse.mirror import mirror_root, version_of
from tests.benchmarks.day import DAY, write_day
from tests.benchmarks.measuring import run
from tests.support.wrm import wrm_day, wrm_layout

DAYS = 365
SNAPSHOTS = 144
VERSION = "0" * 12
_TIMES = ("timestamp", "file_timestamp", "processed_at")


def measure(folder: Path, runs: int) -> dict[str, object]:
    """Medians of `runs` of each; what the first build, and all refreshes and questions, took of memory."""
    rows = write_year(folder)
    work = [sys.executable, "-m", "tests.benchmarks.year_work"]
    first = run([*work, "refresh", str(folder), "1"])
    again = run([*work, "refresh", str(folder), str(runs + 1)])
    refreshes = json.loads((folder / "refresh.json").read_text())
    asked = run([*work, "ask", str(folder), str(runs)])
    plain = run([*work, "ask_files", str(folder), str(runs)])
    ours, theirs = (json.loads((folder / name).read_text()) for name in ("ask.json", "ask_files.json"))
    table: list[dict[str, object]] = [
        {"what": "first build of the database", "bikeflow_s": f"{first.wall:8.1f}", "peak_mb": f"{first.peak_mb:.0f}"},
        {"what": "one more snapshot", "bikeflow_s": f"{refreshes['seconds']:8.3f}", "peak_mb": f"{again.peak_mb:.0f}"},
    ]
    table += [_row(what, seconds, theirs.get(what)) for what, seconds in ours.items()]
    size = refreshes["bytes"] / 1e6
    return {
        "what": f"{DAYS} days, {rows:,} rows; medians of {runs} runs; plain: the same asked of the Parquet files by"
        f" DuckDB on as many threads; published database {size:.1f} MB; questions' peak {asked.peak_mb:.0f} MB,"
        f" plain {plain.peak_mb:.0f} MB",
        "rows": table,
    }


def _row(what: str, bikeflow: float, plain: float | None) -> dict[str, object]:
    figures: dict[str, object] = {"what": what, "bikeflow_s": f"{bikeflow:8.3f}"}
    return {**figures, "plain_s": f"{plain:8.3f}", "ratio": f"{plain / bikeflow:8.1f}"} if plain else figures


def write_year(folder: Path) -> int:
    """The mirrored files of all days; returns the number of their rows."""
    write_day(folder / "day" / "lake", DAY, SNAPSHOTS)
    command = [sys.executable, "-m", "bikeflow", "backfill", "--data-dir", str(folder / "day")]
    subprocess.run(command, check=True, capture_output=True)
    (source,) = (folder / "day").glob("lake/**/enhanced/**/*.parquet")
    table = pq.ParquetFile(source).read()
    metadata = pq.read_metadata(source).metadata
    for number in range(DAYS):
        day = DAY.date() + dt.timedelta(number)
        path = (
            mirror_root(folder) / "system_id=wrm" / f"dt={day}" / f"all_enhanced_{day:%Y%m%d}_235959.{VERSION}.parquet"
        )
        path.parent.mkdir(parents=True)
        _write(path, _moved(table, number), {key: _renamed(value, day) for key, value in metadata.items()})
    return int(table.num_rows) * DAYS


def hour_of_next_day(folder: Path, snapshots: int) -> SegmentWritten:
    """Write the first segment of the day after the last to the mirror, with so many snapshots; tells what is new."""
    day = DAY.date() + dt.timedelta(DAYS)
    (source,) = (folder / "day").glob("lake/**/enhanced/**/*.parquet")
    end = DAY.replace(tzinfo=None) + dt.timedelta(minutes=10 * snapshots)
    table = pq.ParquetFile(source).read()
    table = table.filter(pc.less(table["file_timestamp"], pa.scalar(end, table.schema.field("file_timestamp").type)))
    moved = _moved(table, DAYS)
    segment = segment_of(wrm_day(day), dt.datetime.combine(day, dt.time(), dt.UTC), 60)
    item = SegmentObject(segment, wrm_layout().segment_key("enhanced", segment), str(snapshots), 0)
    path = mirror_root(folder) / version_of(item, item.etag)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, moved, {})
    newest = moved.filter(pc.equal(moved["file_timestamp"], pc.max(moved["file_timestamp"])))
    former = str(snapshots - 1) if snapshots > 1 else None
    return SegmentWritten(segment, item, former, newest.cast(ENHANCED))


def _moved(table: pa.Table, days: int) -> pa.Table:
    """The same rows so many days later."""
    shift = pa.scalar(dt.timedelta(days), pa.duration("us"))
    for name in _TIMES:
        moved = pc.add(table[name], shift).cast(table.schema.field(name).type)
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), moved)
    day = DAY.date() + dt.timedelta(days)
    date = pa.repeat(pa.scalar(day, table.schema.field("date").type), table.num_rows)
    table = table.set_column(table.schema.get_field_index("date"), table.schema.field("date"), date)
    keys = pc.replace_substring(table["s3_source_key"].cast(pa.string()), f"{DAY:%Y-%m-%d}", f"{day:%Y-%m-%d}")
    field = table.schema.field("s3_source_key")
    return table.set_column(table.schema.get_field_index("s3_source_key"), field, keys.cast(field.type))


def _renamed(value: bytes, day: dt.date) -> bytes:
    return value.replace(f"{DAY:%Y-%m-%d}".encode(), f"{day:%Y-%m-%d}".encode())


def _write(path: Path, table: pa.Table, metadata: dict[bytes, bytes]) -> None:
    with pq.ParquetWriter(path, table.schema, compression="zstd", store_schema=False) as writer:
        writer.add_key_value_metadata({key.decode(): value.decode() for key, value in metadata.items()})
        writer.write_table(table, row_group_size=max(table.num_rows, 1))
