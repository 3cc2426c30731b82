"""Which raw files and segments a system has, and which segments are dirty.

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
from itertools import groupby
from typing import NamedTuple

from bikeflow.core.layout import DAY_END, LAYERS, Layer, Layout, sealed_segment, segment_of
from bikeflow.core.model import UTC, ObjectInfo, Partition, RawFile, Segment, SegmentObject
from bikeflow.ledger.database import Database, Transaction, text


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
    """The raw files and segments of one system."""

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
            known = self._known(transaction, [file.key for file, _ in listed])
            sealed = {row["day"] for row in transaction.run("sealed_days", system_id=self._system)}
            for file, trace_id in listed:
                before, day = known.get(file.key), file.partition.day.isoformat()
                segment = self._segment_of(file, before and before.segment_end, sealed=day in sealed)
                seen = _Seen(file.etag, file.size, text(file.time), _clock(segment.start), _clock(segment.end))
                if seen == before:
                    continue
                known[file.key] = seen
                rows.append(self._row(file, seen) | {"trace_id": trace_id, "seen_at": now})
                wanted.add((day, seen.segment_start, seen.segment_end))
                if before is not None and before.segment_end != seen.segment_end:
                    left.add((day, before.segment_end))
                changed.append(file)
            transaction.run_many("observe_raw_file", rows)
            for day, start, end in wanted:
                transaction.run("want_segment", system_id=self._system, day=day, start=start, end=end)
            for day, end in left:
                transaction.run("want_known_segment", system_id=self._system, day=day, end=end)
        return changed

    def unsealed(self, before: dt.date, quiet_since: dt.datetime) -> list[Partition]:
        """Days before this one that can be sealed now: see `days_to_seal`."""
        candidates = self._rows("sealing_candidates", before=before.isoformat(), day_end=_clock(DAY_END))
        return [self._partition(day) for day in days_to_seal(candidates, text(quiet_since))]

    def seal(self, partition: Partition, *, idle: bool = False) -> None:
        """From now on the day is one segment: that is to be written, and those it was cut into have nothing left.

        While the day is `idle`, segments that were never written are forgotten. Otherwise a run may be writing one of
        them just now: the next run then removes its files.
        """
        segment = identity(sealed_segment(partition))
        day = {"system_id": segment["system_id"], "day": segment["day"]}
        with self._database.transaction() as transaction:
            transaction.run("seal_day", **day)
            if transaction.run("move_raw_files", **segment).rowcount:
                if idle:
                    transaction.run("forget_unwritten_segments", **day)
                transaction.run("want_segments_of_day", **day, except_end=segment["end"])
                transaction.run("want_segment", **segment)

    def forget(self, keys: Collection[str]) -> None:
        """Raw files that are gone from the store: their segments are written again without them."""
        self.forgettings += 1
        self._want_again("forget_raw_file", keys)

    def known_keys(self) -> dict[str, str]:
        """The ETag of every known raw file by key."""
        return self._database.pairs("known_etags", system_id=self._system)

    def raw_files(self, keys: Collection[str]) -> dict[str, RawFile]:
        """Those of these raw files that are known, by key."""
        return {row["key"]: self._raw_file(row) for row in self._rows("raw_files", keys=json.dumps(list(keys)))}

    def key_before_newest(self, count: int) -> str:
        """The key that has `count` known keys behind it, or an empty one where there are not so many."""
        row = self._database.row("key_before_newest", system_id=self._system, count=count)
        return "" if row is None else str(row["key"])

    def trace_id(self, key: str) -> str:
        """The trace id of a known raw file."""
        (row,) = self._rows("trace_id", key=key)
        return str(row["trace_id"])

    def lettered_keys(self) -> set[str]:
        """Keys of the raw files that gave dead letters when they were processed."""
        return self._database.values("lettered_keys", system_id=self._system)

    def letters_found(self, keys: Collection[str]) -> None:
        """Dead letters of these raw files lie in the store: those that are still to be processed must replace them."""
        with self._database.transaction() as transaction:
            transaction.run("letters_found", system_id=self._system, keys=json.dumps(list(keys)))

    def processed_keys(self) -> set[str]:
        """Keys of the raw files whose rows lie in their segment."""
        return self._database.values("processed_keys", system_id=self._system)

    def process_again(self, keys: Collection[str]) -> None:
        """Raw files whose dead letters got lost: they count as changed."""
        self._want_again("process_again", keys)

    def write_again(self, day: dt.date) -> None:
        """A whole day, from its raw files alone; segments of it to which none belongs any more go."""
        with self._database.transaction() as transaction:
            transaction.run("process_day_again", system_id=self._system, day=day.isoformat())
            transaction.run("want_segments_of_day", system_id=self._system, day=day.isoformat(), except_end="")

    def due_partitions(self, now: dt.datetime) -> list[Partition]:
        """Days with dirty segments, but for those that failed lately and wait for their next try."""
        return [self._partition(row["day"]) for row in self._rows("due_days", now=text(now))]

    def dirty_partitions(self) -> list[Partition]:
        """All days with dirty segments."""
        return [self._partition(row["day"]) for row in self._rows("dirty_days")]

    def dirty_files(self, first: dt.date, last: dt.date) -> int:
        """Number of raw files in a range of days that are still to be processed."""
        (row,) = self._rows("count_unprocessed", first=first.isoformat(), last=last.isoformat())
        return int(row[0])

    def keys(self, first: dt.date, last: dt.date) -> list[str]:
        """Keys of all raw files in a range of days."""
        return [row["key"] for row in self._rows("raw_files_of_days", first=first.isoformat(), last=last.isoformat())]

    def dirty_segments(self, day: dt.date) -> list[SegmentWork]:
        """The work of a run: segments to be written in the order of time, then those that nothing belongs to."""
        work = [self._work(row) for row in self._rows("dirty_segments", day=day.isoformat())]
        return sorted(work, key=lambda item: not item.files)

    def segment_written(
        self, work: SegmentWork, objects: Mapping[Layer, ObjectInfo], results: Iterable[FileResult]
    ) -> None:
        """A run has written the segment (no `objects`: it holds no row and has no files)."""
        segment, now = identity(work.segment), text(dt.datetime.now(UTC))
        place = {"system_id": segment["system_id"], "end": segment["end"], "now": now}
        with self._database.transaction() as transaction:
            transaction.run_many("raw_file_processed", [place | result_values(result) for result in results])
            set_objects(transaction, segment, objects)
            transaction.run("segment_done", **segment, wanted=work.wanted)
            transaction.run("forget_empty_segment", **segment)

    def segment_objects(self) -> list[SegmentObject]:
        """The enhanced files that the analytics database is made of."""
        rows = self._rows("segment_objects")
        # taken over for all that did not change: one more refresh of an archive of years makes a few only
        known, keys = self._segment_objects, [tuple(row) for row in rows]
        self._segment_objects = {
            key: known.get(key) or self._segment_object(row) for key, row in zip(keys, rows, strict=True)
        }
        return list(self._segment_objects.values())

    def published_segments(self) -> list[SegmentObject] | None:
        """The same, or None while the ledger has not seen the system's whole lake: an empty database would be a lie."""
        return None if self.reconciled_at() is None else self.segment_objects()

    def set_reconciled(self, at: dt.datetime) -> None:
        """The ledger now agrees with the system's whole lake."""
        with self._database.transaction() as transaction:
            transaction.run("set_reconciled", system_id=self._system, now=text(at))

    def reconciled_at(self) -> dt.datetime | None:
        """When the ledger last agreed with the system's whole lake; None where it never did, and so is no index yet."""
        row = self._database.row("reconciled_at", system_id=self._system)
        return None if row is None else dt.datetime.fromisoformat(row["reconciled_at"])

    def totals(self, day: dt.date | None = None) -> dict[str, int]:
        """Counts for `status`, of all or of one day: raw files, done, lines, rows, rejected; dirty segments of all."""
        (row,) = self._rows("totals", day=day and day.isoformat())
        return dict(row)

    @property
    def _system(self) -> str:
        return self._layout.system_id

    def _rows(self, name: str, **parameters: object) -> list[sqlite3.Row]:
        return self._database.rows(name, system_id=self._system, **parameters)

    def _want_again(self, name: str, keys: Collection[str]) -> None:
        """Run a query for raw files that gives their segments, which are then to be written again."""
        with self._database.transaction() as transaction:
            for key in keys:
                for row in transaction.run(name, system_id=self._system, key=key).fetchall():
                    segment = {"system_id": self._system, "day": row["day"], "end": row["segment_end"]}
                    transaction.run("want_known_segment", **segment)

    def _work(self, row: sqlite3.Row) -> SegmentWork:
        raw = self._rows("raw_files_of_segment", day=row["day"], end=row["segment_end"])
        changed = [item for item in raw if item["done_etag"] != item["etag"]]
        ends = {item["done_end"] for item in raw if item["done_etag"] == item["etag"]}
        written = self._rows("written_segments", day=row["day"])
        return SegmentWork(
            segment=segment_from(row),
            wanted=row["wanted"],
            files=tuple(self._raw_file(item) for item in raw),
            changed=frozenset(item["key"] for item in changed),
            bases=tuple(self._segment_object(item) for item in written if item["segment_end"] in ends),
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

    def _segment_object(self, row: sqlite3.Row) -> SegmentObject:
        segment = segment_from(row, self._system)
        key = self._layout.segment_key("enhanced", segment)
        return SegmentObject(segment, key, row["enhanced_etag"], row["enhanced_size"])

    def _known(self, transaction: Transaction, keys: list[str]) -> dict[str, _Seen]:
        """What is known of those of these raw files that are."""
        rows = transaction.run("seen_raw_files", system_id=self._system, keys=json.dumps(keys))
        return {key: _Seen(*seen) for key, *seen in rows}

    def _row(self, file: RawFile, seen: _Seen) -> dict[str, object]:
        return {
            "system_id": self._system,
            "key": file.key,
            "day": file.partition.day.isoformat(),
            "start": seen.segment_start,
            "end": seen.segment_end,
            "time": seen.time,
            "size": file.size,
            "etag": file.etag,
            "last_modified": text(file.last_modified),
        }

    def _raw_file(self, row: sqlite3.Row) -> RawFile:
        time, last_modified = (dt.datetime.fromisoformat(row[name]) for name in ("time", "last_modified"))
        return RawFile(row["key"], self._partition(row["day"]), time, row["size"], row["etag"], last_modified)

    def _partition(self, day: str) -> Partition:
        return Partition(self._system, dt.date.fromisoformat(day))


def days_to_seal(candidates: Iterable[sqlite3.Row], quiet_since: str) -> list[str]:
    """Of the days of these segments (ordered by day), those that can be sealed now.

    All of a day's segments must be written, or none begun. A sealed day that late files came to is sealed again once
    no further one has come since `quiet_since`; only the segments that hold late files decide about it.
    """
    found = []
    for day, group in groupby(candidates, key=lambda segment: str(segment["day"])):
        segments = [item for item in group if not item["is_sealed"] or item["late_file_seen_at"] is not None]
        written = sum(item["done"] == item["wanted"] for item in segments)
        begun = any(0 < item["done"] < item["wanted"] for item in segments)
        restless = any((item["late_file_seen_at"] or "") > quiet_since for item in segments)
        if segments and written in (0, len(segments)) and not begun and not restless:
            found.append(day)
    return found


def identity(segment: Segment) -> dict[str, str]:
    """What identifies a segment in queries, and where it starts."""
    return {
        "system_id": segment.partition.system_id,
        "day": segment.partition.day.isoformat(),
        "start": _clock(segment.start),
        "end": _clock(segment.end),
    }


def segment_from(row: sqlite3.Row, system_id: str | None = None) -> Segment:
    """The segment of a row of the table `segments`; `system_id` where the row does not have it."""
    start, end = (dt.time.fromisoformat(row[name]) for name in ("segment_start", "segment_end"))
    partition = Partition(system_id or row["system_id"], dt.date.fromisoformat(row["day"]))
    return Segment(partition, start, end)


def set_objects(transaction: Transaction, segment: Mapping[str, str], objects: Mapping[Layer, ObjectInfo]) -> None:
    """Take note of both layers' files of a segment as they now lie in the store."""
    for layer in LAYERS:
        info = objects.get(layer)
        transaction.run("set_segment_object", **segment, layer=layer, etag=info and info.etag, size=info and info.size)


def result_values(result: FileResult) -> dict[str, object]:
    """A raw file's result as parameters of a query."""
    names = ("key", "etag", "md5", "lines", "rows", "rejected", "letters")
    return {name: getattr(result, name) for name in names}


@cache
def _clock(at: dt.time) -> str:
    return f"{at:%H%M%S}"
