"""Which raw files and segments a system has, and which segments are dirty.

Level-triggered: a segment is dirty until a run has written it from the raw files that it is now wanted to hold. What
arrives while a run works raises `wanted` once more, so nothing is missed and nothing needs to be remembered.
"""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache

from bikeflow.core.layout import DAY_END, LAYERS, Layer, Layout, sealed_segment, segment_of
from bikeflow.core.model import UTC, FileRecord, ObjectInfo, Partition, RawFile, Segment, SegmentObject
from bikeflow.ledger.ahead import Unwritten
from bikeflow.ledger.database import Database, Transaction, text


@dataclass(frozen=True, slots=True)
class FileResult:
    """What the processing of one raw file gave, and the `etag` that the file had.

    `letters` tells whether it has dead letters: one that can't be read has one even where it has no lines.
    """

    record: FileRecord
    etag: str
    letters: bool


@dataclass(frozen=True, slots=True)
class SegmentWork:
    """A dirty segment: all raw files that it shall hold, and those of them that changed since it was last written.

    `held` are those that are missing from the store, whose rows must be kept; `derived` those that rows or dead letters
    were made of before. `wanted` is the generation that a run fulfils. `bases` are the enhanced files in which the rows
    of the unchanged raw files lie. `etags` tells of the segment's own files as they lie in the store (empty: none),
    `published` is the ETag of the enhanced file that the database shows. `lettered` are raw files whose dead letters
    exist, or may exist. `traces` are the trace ids of the changed raw files, by key. `may_wait`: build it, but do not
    write it to the store.
    """

    segment: Segment
    wanted: int
    files: tuple[RawFile, ...]
    changed: frozenset[str]
    bases: tuple[SegmentObject, ...]
    etags: Mapping[Layer, str]
    lettered: frozenset[str]
    traces: Mapping[str, str]
    published: str | None = None
    may_wait: bool = False
    held: frozenset[str] = frozenset()
    derived: frozenset[str] = frozenset()


class FileIndex:
    """The raw files and segments of one system."""

    def __init__(self, database: Database, layout: Layout, segment_minutes: int) -> None:
        self._database = database
        self._layout = layout
        self._segment_minutes = segment_minutes
        self._segment_objects: dict[tuple[object, ...], SegmentObject] = {}
        self.unwritten = Unwritten()
        self.forgettings = 0
        """How often raw files were forgotten by this process: what was seen before may be news again."""

    def observe(self, files: Iterable[tuple[RawFile, str]]) -> list[RawFile]:
        """Take note of raw files (each with its trace id) as the store now shows them; returns the new and changed."""
        listed, now = list(files), text(dt.datetime.now(UTC))
        changed: list[RawFile] = []
        rows, wanted, left = [], set(), set()
        keys = json.dumps([file.key for file, _ in listed])
        with self._database.transaction() as transaction:
            known = {row["key"]: row for row in transaction.run("raw_files", system_id=self._system, keys=keys)}
            returned = transaction.run("raw_files_returned", system_id=self._system, keys=keys).fetchall()
            unread = {row["key"] for row in returned} & {key for key, row in known.items() if not _is_done(row)}
            sealed = {row["day"] for row in transaction.run("sealed_days", system_id=self._system)}
            for file, trace_id in listed:
                before, day = known.get(file.key), file.partition.day.isoformat()
                segment = self._segment_of(file, before and before["segment_end"], sealed=day in sealed)
                seen: dict[str, object] = {
                    "etag": file.etag,
                    "size": file.size,
                    "time": text(file.time),
                    "segment_start": _clock(segment.start),
                    "segment_end": _clock(segment.end),
                }
                if before is not None and all(before[name] == value for name, value in seen.items()):
                    if file.key in unread:
                        wanted.add((day, seen["segment_start"], seen["segment_end"]))
                    continue
                known[file.key] = seen
                origin: dict[str, object] = {
                    "trace_id": trace_id,
                    "seen_at": now,
                    "last_modified": text(file.last_modified),
                }
                rows.append({"system_id": self._system, "key": file.key, "day": day, **seen, **origin})
                wanted.add((day, seen["segment_start"], seen["segment_end"]))
                if before is not None and before["segment_end"] != seen["segment_end"]:
                    left.add((day, before["segment_end"]))
                changed.append(file)
            transaction.run_many("observe_raw_file", rows)
            for day, start, end in wanted:
                transaction.run("want_segment", system_id=self._system, day=day, start=start, end=end)
            for day, end in left:
                transaction.run("want_known_segment", system_id=self._system, day=day, end=end)
        return changed

    def days_to_seal(self, before: dt.date, quiet_since: dt.datetime) -> list[Partition]:
        """Days before this one that are over and written; a sealed one again, with late files that came before then."""
        limits = {"before": before.isoformat(), "day_end": _clock(DAY_END), "quiet_since": text(quiet_since)}
        return self._partitions("days_to_seal", **limits)

    def seal(self, partition: Partition, *, idle: bool = False) -> None:
        """From now on the day is one segment, which must be written; those that it was cut into hold nothing more.

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
                transaction.run("want_segments_of_days", **segment, first=segment["day"], last=segment["day"])
                transaction.run("want_segment", **segment)

    def forget(self, keys: Collection[str]) -> None:
        """Raw files that are gone from the store: their segments are written again without them."""
        self.forgettings += 1
        self._want_again("forget_raw_file", keys)

    def known_keys(self) -> dict[str, str]:
        """The ETag of every known raw file by key."""
        return self._database.pairs("known_etags", system_id=self._system)

    def raw_files(self, keys: Collection[str]) -> dict[str, RawFile]:
        """The known ones among these raw files, by key."""
        return {row["key"]: raw_file_from(row) for row in self._rows("raw_files", keys=json.dumps(list(keys)))}

    def key_before_newest(self, count: int) -> str:
        """The key that has `count` known keys behind it, or an empty one where there are not so many."""
        row = self._database.row("key_before_newest", system_id=self._system, count=count)
        return "" if row is None else str(row["key"])

    def processed(self) -> dict[str, bool]:
        """Whether they gave dead letters, by the keys of the raw files whose rows lie in their segment."""
        return self._database.pairs("processed_files", system_id=self._system)

    def letters_found(self, keys: Collection[str]) -> None:
        """Dead letters of these raw files lie in the store: those that are still to be processed must replace them."""
        with self._database.transaction() as transaction:
            transaction.run("letters_found", system_id=self._system, keys=json.dumps(list(keys)))

    def process_again(self, keys: Collection[str]) -> None:
        """Raw files whose dead letters got lost: they count as changed."""
        self.unwritten.parse_again(keys)
        self._want_again("process_again", keys)

    def write_again(self, first: dt.date, last: dt.date) -> None:
        """A range of days, from their raw files alone; segments of them to which none belongs any more go."""
        days = {"system_id": self._system, "first": first.isoformat(), "last": last.isoformat()}
        with self._database.transaction() as transaction:
            transaction.run("process_days_again", **days)
            transaction.run("want_segments_of_days", **days)
        self.unwritten.parse_days_again(first, last)

    def dirty_partitions(self, now: dt.datetime | None = None) -> list[Partition]:
        """Days with dirty segments; with `now`, without those that failed and still wait for their next try."""
        rows = self._rows("dirty_segments", now=now and text(now))
        return sorted({segment_from(row).partition for row in rows if not self._waits(row)})

    def dirty_files(self, first: dt.date, last: dt.date) -> int:
        """Number of raw files in a range of days that are still to be processed."""
        counts = self.totals(first, last)
        return counts["raw_files"] - counts["processed_files"]

    def dirty_segments(self, day: dt.date) -> list[SegmentWork]:
        """The work of a run: segments to be written in the order of time, then those that nothing belongs to."""
        rows = self._rows("segments_of_day", day=day.isoformat())
        written = [row for row in rows if row["enhanced_etag"] is not None]
        work = [self._work(row, written) for row in rows if row["wanted"] > row["done"] and not self._waits(row)]
        return sorted(work, key=lambda item: not item.files)

    def segment_written(
        self, work: SegmentWork, objects: Mapping[Layer, ObjectInfo], results: Iterable[FileResult]
    ) -> None:
        """A run has written the segment (no `objects`: it holds no row and has no files)."""
        segment, now = identity(work.segment), text(dt.datetime.now(UTC))
        place = {"system_id": segment["system_id"], "end": segment["end"], "now": now}
        with self._database.transaction() as transaction:
            results = list(results)
            transaction.run_many("raw_file_processed", [place | result_values(result) for result in results])
            left_out = {raw.key for raw in work.files} - {result.record.key for result in results}
            for key in left_out:
                transaction.run("raw_file_without_rows", system_id=segment["system_id"], key=key)
            for layer in LAYERS:
                set_object(transaction, segment, layer, objects.get(layer))
            transaction.run("segment_done", **segment, wanted=work.wanted)
            transaction.run("forget_empty_segment", **segment)
        self.unwritten.written(work.segment)

    def segment_objects(self) -> list[SegmentObject]:
        """The enhanced files that the analytics database is made of, as they were built last."""
        rows = self._rows("segment_objects")
        # taken over for all that did not change: one more refresh of an archive of years makes a few only
        known, keys = self._segment_objects, [tuple(row) for row in rows]
        self._segment_objects = {
            key: known.get(key) or self._segment_object(row) for key, row in zip(keys, rows, strict=True)
        }
        return [
            item if (ahead := self.unwritten.get(item.segment)) is None else ahead.object
            for item in self._segment_objects.values()
        ]

    def published_segments(self) -> list[SegmentObject] | None:
        """The enhanced files; None while the ledger has not seen the whole lake: an empty database would be wrong."""
        return None if self.reconciled_at() is None else self.segment_objects()

    def set_reconciled(self, at: dt.datetime) -> None:
        """The ledger now agrees with the system's whole lake."""
        with self._database.transaction() as transaction:
            transaction.run("set_reconciled", system_id=self._system, now=text(at))

    def reconciled_at(self) -> dt.datetime | None:
        """When the ledger last agreed with the system's whole lake; None where it never did, and so is no index yet."""
        row = self._database.row("reconciled_at", system_id=self._system)
        return None if row is None else dt.datetime.fromisoformat(row["reconciled_at"])

    def totals(self, first: dt.date = dt.date.min, last: dt.date = dt.date.max) -> dict[str, int]:
        """Counts of a range of days: raw files, those processed, lines, rows, rejected; dirty segments of all days."""
        (row,) = self._rows("totals", first=first.isoformat(), last=last.isoformat())
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

    def _partitions(self, name: str, **parameters: object) -> list[Partition]:
        return [Partition(self._system, dt.date.fromisoformat(row["day"])) for row in self._rows(name, **parameters)]

    def _waits(self, row: sqlite3.Row) -> bool:
        return self.unwritten.waits(segment_from(row, self._system), row["wanted"])

    def _work(self, row: sqlite3.Row, written: Iterable[sqlite3.Row]) -> SegmentWork:
        segment, listed = segment_from(row), self._rows("raw_files_of_segment", day=row["day"], end=row["segment_end"])
        etags = {layer: row[f"{layer}_etag"] for layer in LAYERS if row[f"{layer}_etag"] is not None}
        ahead = self.unwritten.get(segment)
        known = {} if ahead is None else ahead.results
        derived = {item["key"] for item in listed if item["done_end"] is not None} | known.keys()
        raw = [item for item in listed if not item["is_held"] or item["key"] in derived]
        held = {item["key"] for item in raw if item["is_held"]}
        # What was built last counts instead of what lies in the store.
        done = {key: result.etag for key, result in known.items()} | {
            item["key"]: item["done_etag"]
            for item in raw
            if item["key"] not in known and (ahead is None or item["done_end"] != row["segment_end"])
        }
        changed = {item["key"]: item["trace_id"] for item in raw if done.get(item["key"]) != item["etag"]}
        ends = {item["done_end"] for item in raw if item["key"] not in (changed.keys() - held) | known.keys()}
        bases = [self._segment_object(item) for item in written if item["segment_end"] in ends]
        lettered = {item["key"] for item in raw if item["letters"]} | {
            key for key, result in known.items() if result.letters
        }
        return SegmentWork(
            segment=segment,
            wanted=row["wanted"],
            files=tuple(raw_file_from(item) for item in raw),
            changed=frozenset(changed),
            bases=tuple(bases if ahead is None else [ahead.object, *bases]),
            etags=etags,
            lettered=frozenset(lettered),
            traces={key: trace_id for key, trace_id in changed.items() if key not in held},
            published=etags.get("enhanced") if ahead is None else ahead.object.etag,
            may_wait=etags.keys() == set(LAYERS) and self.unwritten.may_wait(segment),
            held=frozenset(held),
            derived=frozenset(derived),
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


def raw_file_from(row: sqlite3.Row) -> RawFile:
    """The raw file of a row of the table `raw_files`."""
    partition = Partition(row["system_id"], dt.date.fromisoformat(row["day"]))
    time, last_modified = (dt.datetime.fromisoformat(row[name]) for name in ("time", "last_modified"))
    return RawFile(row["key"], partition, time, row["size"], row["etag"], last_modified)


def record_from(row: sqlite3.Row) -> FileRecord | None:
    """What the raw file of such a row gave; None where it is not processed."""
    if not _is_done(row):
        return None
    return FileRecord(row["key"], row["size"], row["md5"], row["lines"], row["rows"], row["rejected"])


def set_object(transaction: Transaction, segment: Mapping[str, str], layer: Layer, info: ObjectInfo | None) -> None:
    """Take note of a layer's file of a segment as it now lies in the store; None: there is none."""
    transaction.run("set_segment_object", **segment, layer=layer, etag=info and info.etag, size=info and info.size)


def result_values(result: FileResult) -> dict[str, object]:
    """A raw file's result as parameters of a query."""
    return {**asdict(result.record), "etag": result.etag, "letters": result.letters}


def _is_done(row: sqlite3.Row) -> bool:
    """Whether the rows of a raw file lie in its segment as it was last seen."""
    return bool(row["done_etag"] == row["etag"])


@cache
def _clock(at: dt.time) -> str:
    return f"{at:%H%M%S}"
