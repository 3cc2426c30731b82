"""Raw objects in, accepted rows and dead letters out: the whole of parsing."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from bikeflow.core.schema import ENCODED
from bikeflow.feeds.base import DeadLetter, ParsedFile, RawContent, RecordCount
from bikeflow.feeds.gbfs.container import NotASnapshot, unpack
from bikeflow.feeds.gbfs.documents import INFORMATION, STATIONS, TYPES, VEHICLES, NoArray, NotJson, read_array
from bikeflow.feeds.gbfs.records import Context, Row, context_of, station_row, vehicle_row
from bikeflow.feeds.gbfs.values import Rejected, encodable
from bikeflow.feeds.recipe import recipe_of
from bikeflow.settings.sections import RulesSettings

_MAX_RAW_LINE = 64 * 1024
_MICRO = 1_000_000
_READ = (INFORMATION, TYPES, STATIONS, *VEHICLES)
_RECORDS = (STATIONS, *VEHICLES)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The documents of one raw object that the mapping reads: `arrays` by name; why others are `broken`, with the body.

    Its records are the elements of the stations' and vehicles' arrays, and each broken document.
    """

    arrays: dict[str, list[Any]] = field(default_factory=dict)
    broken: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """Number of records."""
        return len(self.broken) + sum(len(self.arrays.get(name, ())) for name in _RECORDS)


def read_snapshot(data: bytes) -> Snapshot:
    """The snapshot in a raw object; raises `NotASnapshot`."""
    snapshot, documents = Snapshot(), unpack(data)
    for name in _READ:
        if name in documents:
            try:
                snapshot.arrays[name] = read_array(name, documents[name])
            except (NotJson, NoArray) as error:
                snapshot.broken[name] = (str(error), documents[name])
    return snapshot


def parse_files(files: Sequence[RawContent], rules: RulesSettings) -> list[ParsedFile]:
    """Parse, type, validate, classify and flag all records of the files; one result a file, in the same order."""
    return [_parse_file(file, rules) for file in files]


def count_records(data: bytes) -> RecordCount:
    """Count the records of a raw object; one that can't be read at all counts as one."""
    try:
        return RecordCount(read_snapshot(data).records, readable=True)
    except NotASnapshot:
        return RecordCount(1, readable=False)


def _parse_file(file: RawContent, rules: RulesSettings) -> ParsedFile:
    recipe = recipe_of(rules)
    try:
        snapshot = read_snapshot(file.data)
    except NotASnapshot as error:
        letter = DeadLetter(file.raw.key, None, "", None, "container", None, str(error))
        return ParsedFile(file.raw, file.md5, ENCODED.empty_table(), 1, 1, (letter,), recipe)
    rows, letters = _rows(file.raw.key, snapshot)
    table = _table(rows, file, rules)
    return ParsedFile(file.raw, file.md5, table, snapshot.records, len(letters), tuple(letters), recipe)


def _rows(key: str, snapshot: Snapshot) -> tuple[list[Row], list[DeadLetter]]:
    """The accepted records, and the rejected ones."""
    context = context_of(snapshot.arrays.get(INFORMATION, []), snapshot.arrays.get(TYPES, []))
    rows: list[Row] = []
    letters: list[DeadLetter] = []
    seen: set[tuple[str, str]] = set()
    for number, (name, element) in enumerate(_records(snapshot), start=1):
        try:
            rows.append(_row(name, element, context, seen))
        except Rejected as reason:
            message = f"{name}: {reason}"
            letters.append(DeadLetter(key, number, _text(element), reason.column, reason.check, reason.value, message))
    return rows, letters


def _records(snapshot: Snapshot) -> Iterator[tuple[str, Any]]:
    """Each record with the name of its document; a broken document is given as its reason and body."""
    for name in _READ:
        if name in snapshot.broken:
            yield name, snapshot.broken[name]
        elif name in _RECORDS:
            for element in snapshot.arrays.get(name, ()):
                yield name, element


def _row(name: str, element: Any, context: Context, seen: set[tuple[str, str]]) -> Row:
    if isinstance(element, tuple):
        raise Rejected(None, "document", None, element[0])
    if not isinstance(element, dict):
        raise Rejected(None, "type", None, "a record must be an object")
    row = (station_row if name == STATIONS else vehicle_row)(element, context)
    identity = (row["record_type"], row["station_id"])
    if identity in seen:
        column = next(one for one in ("station_id", "vehicle_id", "bike_id") if element.get(one) is not None)
        raise Rejected(column, "unique", row["station_id"], "its id was accepted earlier in the same file")
    seen.add(identity)
    return row


def _text(element: Any) -> str:
    """The record as text, for people."""
    if isinstance(element, tuple):
        return str(element[1][:_MAX_RAW_LINE].decode(errors="replace"))
    return encodable(json.dumps(element, ensure_ascii=False)[:_MAX_RAW_LINE])


def _table(rows: Sequence[Row], file: RawContent, rules: RulesSettings) -> pa.Table:
    """Rows of the enhanced layer (columns `ENCODED`), in the same order."""
    time = round((file.raw.time - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(microseconds=1))
    same: Row = {
        "s3_source_key": file.raw.key,
        "file_timestamp": time,
        "date": file.raw.partition.day,
        # Not the wall clock: the same raw file always gives the same bytes.
        "processed_at": time,
    }
    columns = []
    for item in ENCODED:
        if item.name in same:
            values = [same[item.name]] * len(rows)
        elif item.name == "quality_flags":
            values = [_flags(row, time, rules) for row in rows]
        else:
            values = [row.get(item.name) for row in rows]
        columns.append(_column(values, item.type))
    return pa.table(columns, schema=ENCODED)


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return pa.array(values, pa.string()).dictionary_encode().cast(kind)
    return pa.array(values, kind)


def _flags(row: Row, file_time: int, rules: RulesSettings) -> list[str]:
    """What is odd in a row, as far as it is known."""
    lat, lon = row.get("lat"), row["lon"]
    bikes, docks, at = row.get("bikes"), row.get("total_docks"), row["timestamp"]
    flags = []
    inside = lat is None or (rules.lat_min <= lat <= rules.lat_max and rules.lon_min <= lon <= rules.lon_max)
    if not inside:
        flags.append("outside_service_area")
    if bikes is not None and docks is not None and bikes > docks:
        flags.append("over_capacity")
    if at is not None and at > file_time + rules.future_seconds * _MICRO:
        flags.append("future_timestamp")
    if at is not None and at < file_time - rules.stale_seconds * _MICRO:
        flags.append("stale_timestamp")
    return flags
