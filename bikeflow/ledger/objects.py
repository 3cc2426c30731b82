"""Which Parquet files lie in the store, and whose they are: how a lost ledger learns what is already done."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Mapping, Sequence

from bikeflow.layout import LAYERS, Layer, Layout
from bikeflow.ledger.database import Database
from bikeflow.ledger.files import FileResult
from bikeflow.model import ObjectInfo, Segment


class ObjectIndex:
    """The Parquet side of the tables `segments` and `foreign_objects`."""

    def __init__(self, database: Database, layout: Layout) -> None:
        self._database = database
        self._layout = layout

    def known(self, layer: Layer) -> dict[str, tuple[Segment, str]]:
        """Segment and ETag of every file of a layer that we wrote or adopted, by key."""
        column = f"{layer}_etag"
        rows = self._database.rows(f"SELECT * FROM segments WHERE {column} IS NOT NULL")
        segments = [(_segment(row), row[column]) for row in rows]
        return {self._layout.segment_key(layer, segment): (segment, etag) for segment, etag in segments}

    def foreign(self) -> dict[str, str]:
        """ETags of the files that are not ours, by key."""
        return {row["key"]: row["etag"] for row in self._database.rows("SELECT key, etag FROM foreign_objects")}

    def set_foreign(self, etags: Mapping[str, str]) -> None:
        """Remember exactly these files as not ours."""
        with self._database.transaction() as transaction:
            transaction.execute("DELETE FROM foreign_objects")
            transaction.executemany("INSERT INTO foreign_objects VALUES (?, ?)", etags.items())

    def lost(self, segment: Segment, layer: Layer) -> None:
        """The segment's file in a layer is gone or was replaced by something else: it is to be written again."""
        with self._database.transaction() as transaction:
            transaction.execute(
                f"UPDATE segments SET wanted = wanted + 1, {layer}_etag = NULL, {layer}_size = NULL"
                " WHERE partition = ? AND segment_end = ?",
                _identity(segment),
            )

    def adopt(self, segment: Segment, objects: Mapping[Layer, ObjectInfo], results: Sequence[FileResult]) -> bool:
        """Take over a segment as its footers describe it: `results`, whose `etag` is that of the file as processed.

        Returns whether it is complete: both layers there, made of exactly the raw files that are now wanted in it.
        """
        with self._database.transaction() as transaction:
            transaction.execute(
                "INSERT INTO segments (partition, segment_end, segment_start, wanted) VALUES (?, ?, ?, 1)"
                " ON CONFLICT DO NOTHING",
                (*_identity(segment), f"{segment.start:%H%M%S}"),
            )
            # What was known of the segment's content was true of the files that these have replaced.
            transaction.execute(
                "UPDATE raw_files SET done_etag = NULL WHERE partition = ? AND done_end = ?", _identity(segment)
            )
            matched = sum(_adopt_file(transaction, segment, result) for result in results)
            row = transaction.execute(
                "SELECT segment_start, (SELECT count(*) FROM raw_files AS raw WHERE raw.partition = segments.partition"
                " AND raw.segment_end = segments.segment_end) AS files"
                " FROM segments WHERE partition = ? AND segment_end = ?",
                _identity(segment),
            ).fetchone()
            complete = (
                matched == len(results) == row["files"]
                and row["segment_start"] == f"{segment.start:%H%M%S}"
                and set(objects) == set(LAYERS)
            )
            for layer, info in objects.items():
                transaction.execute(
                    f"UPDATE segments SET {layer}_etag = ?, {layer}_size = ? WHERE partition = ? AND segment_end = ?",
                    (info.etag, info.size, *_identity(segment)),
                )
            done = "done = wanted" if complete else "wanted = wanted + 1"
            transaction.execute(
                f"UPDATE segments SET {done} WHERE partition = ? AND segment_end = ?",
                _identity(segment),
            )
        return complete


def _adopt_file(transaction: sqlite3.Connection, segment: Segment, result: FileResult) -> int:
    changed = transaction.execute(
        "UPDATE raw_files SET done_etag = etag, done_end = segment_end, md5 = ?, lines = ?, rows = ?, rejected = ?,"
        " letters = ?"
        " WHERE key = ? AND etag = ? AND partition = ? AND segment_end = ?",
        (
            *(result.md5, result.lines, result.rows, result.rejected, result.letters),
            *(result.key, result.etag, *_identity(segment)),
        ),
    )
    return changed.rowcount


def _identity(segment: Segment) -> tuple[str, str]:
    return segment.partition.isoformat(), f"{segment.end:%H%M%S}"


def _segment(row: sqlite3.Row) -> Segment:
    start, end = (dt.time.fromisoformat(row[name]) for name in ("segment_start", "segment_end"))
    return Segment(dt.date.fromisoformat(row["partition"]), start, end)
