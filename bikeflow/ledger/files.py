"""Which raw files and segments there are, and which segments are dirty.

Level-triggered: a segment is dirty until a run has written it from the raw files that it is now wanted to hold. What
arrives while a run works raises `wanted` once more, so nothing is missed and nothing needs to be remembered.
"""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from bikeflow.layout import DAY_END, LAYERS, Layer, Layout, sealed_segment, segment_of
from bikeflow.ledger.database import Database, text
from bikeflow.model import UTC, ObjectInfo, RawFile, Segment, SegmentObject

_UPSERT = """
INSERT INTO raw_files (key, partition, segment_start, segment_end, time, size, etag, last_modified, trace_id, seen_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET segment_start = excluded.segment_start, segment_end = excluded.segment_end,
    time = excluded.time, size = excluded.size, etag = excluded.etag, last_modified = excluded.last_modified,
    trace_id = excluded.trace_id
"""
_WANT = """
INSERT INTO segments (partition, segment_end, segment_start, wanted) VALUES (?, ?, ?, 1)
ON CONFLICT (partition, segment_end) DO UPDATE SET segment_start = excluded.segment_start, wanted = wanted + 1
"""
_WANT_AGAIN = "UPDATE segments SET wanted = wanted + 1 WHERE partition = ? AND segment_end = ?"


@dataclass(frozen=True, slots=True)
class FileResult:
    """What the processing of one raw file gave: the conservation record, lines = rows + rejected.

    `letters` tells whether it has dead letters: one that can't be read has one even where it has no lines.
    """

    key: str
    etag: str
    md5: str
    lines: int
    rows: int
    rejected: int
    letters: bool


@dataclass(frozen=True, slots=True)
class SegmentWork:
    """A dirty segment: all raw files that it shall hold, and those of them that changed since it was last written.

    `wanted` is the generation that a run fulfils. `bases` are the enhanced files in which the rows of the unchanged raw
    files lie. `etags` tells of the segment's own files as they lie in the store (empty: none).
    `lettered` are raw files whose dead letters exist, or may exist.
    """

    segment: Segment
    wanted: int
    files: tuple[RawFile, ...]
    changed: frozenset[str]
    bases: tuple[SegmentObject, ...]
    etags: Mapping[Layer, str]
    lettered: frozenset[str]
    traces: tuple[str, ...]


class _Seen(NamedTuple):
    """What is known of a raw file as the store has shown it."""

    etag: str
    size: int
    time: str
    segment_start: str
    segment_end: str


class FileIndex:
    """The tables `raw_files`, `segments` and `foreign_objects`."""

    def __init__(self, database: Database, layout: Layout, segment_minutes: int) -> None:
        self._database = database
        self._layout = layout
        self._segment_minutes = segment_minutes
        self._segment_objects: dict[tuple[object, ...], SegmentObject] = {}
        self.forgettings = 0
        """How often raw files were forgotten by this process: what was seen before may be news again."""

    def observe(self, files: Iterable[tuple[RawFile, str]]) -> list[RawFile]:
        """Take note of raw files (each with its trace id) as the store now shows them; returns the new and changed."""
        listed, now = list(files), text(dt.datetime.now(UTC))
        changed: list[RawFile] = []
        rows, wanted, left = [], set(), set()
        with self._database.transaction() as transaction:
            known = _known(transaction, [file.key for file, _ in listed])
            sealed = {row["partition"] for row in transaction.execute("SELECT partition FROM sealed")}
            for file, trace_id in listed:
                before, day = known.get(file.key), file.partition.isoformat()
                segment = self._segment_of(file, before and before.segment_end, sealed=day in sealed)
                span = (_clock(segment.start), _clock(segment.end))
                seen = _Seen(file.etag, file.size, text(file.time), *span)
                if seen == before:
                    continue
                known[file.key] = seen
                times = (seen.time, file.size, file.etag, text(file.last_modified))
                rows.append((file.key, day, *span, *times, trace_id, now))
                wanted.add((day, *reversed(span)))
                if before is not None and before.segment_end != seen.segment_end:
                    left.add((day, before.segment_end))
                changed.append(file)
            transaction.executemany(_UPSERT, rows)
            transaction.executemany(_WANT, wanted)
            transaction.executemany(_WANT_AGAIN, left)
        return changed

    def unsealed(self, before: dt.date, quiet_since: dt.datetime) -> list[dt.date]:
        """Days before this one that can be sealed: all their segments are written, or none is yet.

        A sealed day that late files came to is sealed again once no further one has come since `quiet_since`.
        """
        rows = self._database.rows(
            "SELECT partition FROM segments LEFT JOIN sealed USING (partition) WHERE partition < ?1"
            # asked of late segments only: else each poll would go through all raw files of all sealed days
            " AND (sealed.partition IS NULL OR segments.segment_end <> ?2 AND EXISTS (SELECT 1 FROM raw_files AS raw"
            " WHERE (raw.partition, raw.segment_end) = (segments.partition, segments.segment_end))"
            " AND NOT EXISTS (SELECT 1 FROM raw_files AS raw WHERE raw.partition = segments.partition"
            " AND raw.segment_end <> ?2 AND raw.seen_at > ?3))"
            " GROUP BY partition HAVING count(*) FILTER (WHERE done = wanted) IN (0, count(*))"
            " AND count(*) FILTER (WHERE 0 < done AND done < wanted) = 0 ORDER BY partition",
            before.isoformat(),
            _clock(DAY_END),
            text(quiet_since),
        )
        return [dt.date.fromisoformat(row["partition"]) for row in rows]

    def seal(self, partition: dt.date, *, idle: bool = False) -> None:
        """From now on the day is one segment: that is to be written, and those it was cut into have nothing left.

        While the day is `idle`, segments that were never written are forgotten. Otherwise a run may be writing one of
        them just now: the next run then removes its files.
        """
        day, whole = partition.isoformat(), sealed_segment(partition)
        span = (_clock(whole.start), _clock(whole.end))
        with self._database.transaction() as transaction:
            transaction.execute("INSERT OR IGNORE INTO sealed VALUES (?)", (day,))
            moved = transaction.execute(
                "UPDATE raw_files SET segment_start = ?1, segment_end = ?2"
                " WHERE partition = ?3 AND (segment_start, segment_end) <> (?1, ?2)",
                (*span, day),
            )
            if moved.rowcount:
                if idle:
                    transaction.execute(
                        "DELETE FROM segments WHERE partition = ? AND processed_etag IS NULL AND enhanced_etag IS NULL",
                        (day,),
                    )
                transaction.execute(
                    "UPDATE segments SET wanted = wanted + 1 WHERE partition = ? AND segment_end <> ?", (day, span[1])
                )
                transaction.execute(_WANT, (day, *reversed(span)))

    def forget(self, keys: Collection[str]) -> None:
        """Raw files that are gone from the store: their segments are written anew without them."""
        self.forgettings += 1
        with self._database.transaction() as transaction:
            for key in keys:
                row = transaction.execute(
                    "DELETE FROM raw_files WHERE key = ? RETURNING partition, segment_end", (key,)
                ).fetchone()
                if row is not None:
                    self._want_again(transaction, row["partition"], row["segment_end"])

    def known_keys(self) -> dict[str, str]:
        """The ETag of every known raw file by key."""
        return self._database.pairs("SELECT key, etag FROM raw_files")

    def raw_files(self, keys: Collection[str]) -> dict[str, RawFile]:
        """Those of these raw files that are known, by key."""
        rows = self._database.rows(
            "SELECT * FROM raw_files WHERE key IN (SELECT value FROM json_each(?))", json.dumps(list(keys))
        )
        return {row["key"]: _raw_file(dt.date.fromisoformat(row["partition"]), row) for row in rows}

    def key_before_newest(self, count: int) -> str:
        """The key that has `count` known keys behind it, or an empty one where there are not so many."""
        rows = self._database.rows("SELECT key FROM raw_files ORDER BY key DESC LIMIT 1 OFFSET ?", count)
        return str(rows[0]["key"]) if rows else ""

    def trace_id(self, key: str) -> str:
        """The trace id of a known raw file."""
        (row,) = self._database.rows("SELECT trace_id FROM raw_files WHERE key = ?", key)
        return str(row["trace_id"])

    def lettered_keys(self) -> set[str]:
        """Keys of the raw files that gave dead letters when they were processed."""
        return self._database.values("SELECT key FROM raw_files WHERE letters AND done_etag = etag")

    def letters_found(self, keys: Collection[str]) -> None:
        """Dead letters of these raw files lie in the store: those that are still to be processed must replace them."""
        with self._database.transaction() as transaction:
            transaction.execute(
                "UPDATE raw_files SET letters = 1 WHERE NOT letters AND done_etag IS NOT etag"
                " AND key IN (SELECT value FROM json_each(?))",
                (json.dumps(list(keys)),),
            )

    def processed_keys(self) -> set[str]:
        """Keys of the raw files whose rows lie in their segment."""
        return self._database.values("SELECT key FROM raw_files WHERE done_etag = etag")

    def process_again(self, keys: Collection[str]) -> None:
        """Raw files whose dead letters got lost: they count as changed."""
        with self._database.transaction() as transaction:
            for key in keys:
                row = transaction.execute(
                    "UPDATE raw_files SET done_etag = NULL WHERE key = ? RETURNING partition, segment_end", (key,)
                ).fetchone()
                if row is not None:
                    self._want_again(transaction, row["partition"], row["segment_end"])

    def write_again(self, partition: dt.date) -> None:
        """A whole day, from its raw files alone; segments of it to which none belongs any more go."""
        with self._database.transaction() as transaction:
            day = partition.isoformat()
            transaction.execute("UPDATE raw_files SET done_etag = NULL WHERE partition = ?", (day,))
            transaction.execute("UPDATE segments SET wanted = wanted + 1 WHERE partition = ?", (day,))

    def due_partitions(self, now: dt.datetime) -> list[dt.date]:
        """Days with dirty segments, but for those that failed lately and wait for their next try."""
        rows = self._database.rows(
            "SELECT DISTINCT partition FROM segments LEFT JOIN backoff USING (partition)"
            " WHERE wanted > done AND coalesce(retry_at, '') <= ? ORDER BY partition",
            text(now),
        )
        return [dt.date.fromisoformat(row["partition"]) for row in rows]

    def dirty_partitions(self) -> list[dt.date]:
        """All days with dirty segments."""
        rows = self._database.rows("SELECT DISTINCT partition FROM segments WHERE wanted > done ORDER BY partition")
        return [dt.date.fromisoformat(row["partition"]) for row in rows]

    def dirty_files(self, first: dt.date, last: dt.date) -> int:
        """Number of raw files in a range of days that are still to be processed."""
        (row,) = self._database.rows(
            "SELECT count(*) AS files FROM raw_files WHERE partition BETWEEN ? AND ? AND done_etag IS NOT etag",
            first.isoformat(),
            last.isoformat(),
        )
        return int(row["files"])

    def keys(self, first: dt.date, last: dt.date) -> list[str]:
        """Keys of all raw files in a range of days."""
        rows = self._database.rows(
            "SELECT key FROM raw_files WHERE partition BETWEEN ? AND ?", first.isoformat(), last.isoformat()
        )
        return [row["key"] for row in rows]

    def dirty_segments(self, partition: dt.date) -> list[SegmentWork]:
        """The work of a run: segments to be written in the order of time, then those that nothing belongs to."""
        rows = self._database.rows(
            "SELECT * FROM segments WHERE partition = ? AND wanted > done ORDER BY segment_end", partition.isoformat()
        )
        work = [self._work(partition, row) for row in rows]
        return sorted(work, key=lambda item: not item.files)

    def segment_written(
        self, work: SegmentWork, objects: Mapping[Layer, ObjectInfo], results: Iterable[FileResult]
    ) -> None:
        """A run has written the segment (no `objects`: it holds no row and has no files)."""
        day, end, now = work.segment.partition.isoformat(), _clock(work.segment.end), text(dt.datetime.now(UTC))
        with self._database.transaction() as transaction:
            transaction.executemany(
                "UPDATE raw_files SET done_at = iif(done_etag IS ?1, done_at, ?2), done_etag = ?1, done_end = ?3,"
                " md5 = ?4, lines = ?5, rows = ?6, rejected = ?7, letters = ?8 WHERE key = ?9",
                [(r.etag, now, end, r.md5, r.lines, r.rows, r.rejected, r.letters, r.key) for r in results],
            )
            self._set_objects(transaction, day, end, objects)
            transaction.execute(
                "UPDATE segments SET done = max(done, ?) WHERE partition = ? AND segment_end = ?",
                (work.wanted, day, end),
            )
            transaction.execute(
                "DELETE FROM segments WHERE wanted = done AND enhanced_etag IS NULL"
                " AND partition = ? AND segment_end = ? AND NOT EXISTS (SELECT 1 FROM raw_files AS raw"
                " WHERE raw.partition = segments.partition AND raw.segment_end = segments.segment_end)",
                (day, end),
            )

    def segment_objects(self) -> list[SegmentObject]:
        """The enhanced files that the analytics database is made of."""
        rows = self._database.rows(
            "SELECT partition, segment_end, segment_start, enhanced_etag, enhanced_size FROM segments"
            " WHERE enhanced_etag IS NOT NULL ORDER BY partition, segment_end"
        )
        # taken over for all that did not change: one more refresh of an archive of years makes a few only
        known, keys = self._segment_objects, [tuple(row) for row in rows]
        self._segment_objects = {
            key: known.get(key) or self._segment_object(row) for key, row in zip(keys, rows, strict=True)
        }
        return list(self._segment_objects.values())

    def published_segments(self) -> list[SegmentObject] | None:
        """The same, or None as long as the ledger has not seen the whole lake: an empty database would be a lie."""
        return None if self.reconciled_at() is None else self.segment_objects()

    def set_reconciled(self, at: dt.datetime) -> None:
        """The ledger now agrees with the whole lake."""
        with self._database.transaction() as transaction:
            transaction.execute("INSERT OR REPLACE INTO facts VALUES ('reconciled_at', ?)", (text(at),))

    def reconciled_at(self) -> dt.datetime | None:
        """When the ledger last agreed with the whole lake; None where it never did: then it is no index yet."""
        rows = self._database.rows("SELECT value FROM facts WHERE name = 'reconciled_at'")
        return dt.datetime.fromisoformat(rows[0]["value"]) if rows else None

    def totals(self, partition: dt.date | None = None) -> dict[str, int]:
        """Counts for `status`, of all or of one day: raw files, done, lines, rows, rejected; dirty segments of all."""
        (row,) = self._database.rows(
            "SELECT count(*) AS raw_files, count(*) FILTER (WHERE done_etag = etag) AS processed_files,"
            " coalesce(sum(lines), 0) AS lines, coalesce(sum(rows), 0) AS rows,"
            " coalesce(sum(rejected), 0) AS rejected,"
            " (SELECT count(*) FROM segments WHERE wanted > done) AS dirty_segments FROM raw_files"
            + ("" if partition is None else " WHERE partition = ?"),
            *([] if partition is None else [partition.isoformat()]),
        )
        return dict(row)

    def _work(self, partition: dt.date, row: sqlite3.Row) -> SegmentWork:
        raw = self._database.rows(
            "SELECT * FROM raw_files WHERE partition = ? AND segment_end = ? ORDER BY key",
            row["partition"],
            row["segment_end"],
        )
        changed = [item for item in raw if item["done_etag"] != item["etag"]]
        ends = {item["done_end"] for item in raw if item["done_etag"] == item["etag"]}
        return SegmentWork(
            segment=_segment(row),
            wanted=row["wanted"],
            files=tuple(_raw_file(partition, item) for item in raw),
            changed=frozenset(item["key"] for item in changed),
            bases=tuple(self._segment_object(item) for item in self._written(row["partition"], ends)),
            etags={layer: row[f"{layer}_etag"] for layer in LAYERS if row[f"{layer}_etag"] is not None},
            lettered=frozenset(item["key"] for item in raw if item["letters"]),
            traces=tuple(sorted({item["trace_id"] for item in changed})),
        )

    def _segment_of(self, file: RawFile, known_end: str | None, *, sealed: bool) -> Segment:
        """Where a raw file belongs. A file that is late for a sealed day does not cost the rewriting of that day.

        It goes to the segment of its hour, beside the sealed one, until the day is sealed again; only in the last hour,
        whose file has the sealed one's name, it goes there directly. `known_end` is the end of the segment that it is
        known to belong to.
        """
        segment = segment_of(file.partition, file.time, self._segment_minutes)
        if sealed and (segment.end == DAY_END or known_end == _clock(DAY_END)):
            return sealed_segment(file.partition)
        return segment

    def _written(self, day: str, ends: Collection[str]) -> list[sqlite3.Row]:
        rows = self._database.rows("SELECT * FROM segments WHERE partition = ? AND enhanced_etag IS NOT NULL", day)
        return [row for row in rows if row["segment_end"] in ends]

    def _segment_object(self, row: sqlite3.Row) -> SegmentObject:
        segment = _segment(row)
        key = self._layout.segment_key("enhanced", segment)
        return SegmentObject(key, segment.partition, row["enhanced_etag"], row["enhanced_size"])

    @staticmethod
    def _want_again(transaction: sqlite3.Connection, day: str, end: str) -> None:
        transaction.execute(_WANT_AGAIN, (day, end))

    @staticmethod
    def _set_objects(transaction: sqlite3.Connection, day: str, end: str, objects: Mapping[Layer, ObjectInfo]) -> None:
        for layer in LAYERS:
            info = objects.get(layer)
            transaction.execute(
                f"UPDATE segments SET {layer}_etag = ?, {layer}_size = ? WHERE partition = ? AND segment_end = ?",
                (info and info.etag, info and info.size, day, end),
            )


def _known(transaction: sqlite3.Connection, keys: list[str]) -> dict[str, _Seen]:
    """What is known of those of these raw files that are."""
    rows = transaction.execute(
        "SELECT key, etag, size, time, segment_start, segment_end FROM raw_files"
        " WHERE key IN (SELECT value FROM json_each(?))",
        (json.dumps(keys),),
    )
    return {key: _Seen(*seen) for key, *seen in rows}


def _raw_file(partition: dt.date, row: sqlite3.Row) -> RawFile:
    time, last_modified = (dt.datetime.fromisoformat(row[name]) for name in ("time", "last_modified"))
    return RawFile(row["key"], partition, time, row["size"], row["etag"], last_modified)


def _segment(row: sqlite3.Row) -> Segment:
    start, end = (dt.time.fromisoformat(row[name]) for name in ("segment_start", "segment_end"))
    return Segment(dt.date.fromisoformat(row["partition"]), start, end)


@cache
def _clock(at: dt.time) -> str:
    return f"{at:%H%M%S}"
