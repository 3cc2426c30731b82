"""What is usual at each station by the hour of the week: a Parquet file for each system, written once a day.

It is made of the eight weeks of finished local days before today. So it follows from the lake alone, whenever it is
written; a late file of these days lets it be written again. One takes a tenth of a second at least: where many are due
at once, as at midnight, an update writes as many as fit in its time.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import time
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa

from bikeflow.core.model import UTC, Partition
from bikeflow.runtime.files import hidden, remove
from bikeflow.warehouse.kept import NO_PARTITION, KeptFiles
from bikeflow.warehouse.parquet import write_empty
from bikeflow.warehouse.statements import HIVE_TYPES, USUAL, pattern, quoted, usual

DAYS = 56
"""Of so many local days."""
_DAY = dt.timedelta(days=1)
_NEVER = dt.datetime(1, 1, 1)  # noqa: DTZ001 - naive, as all times in DuckDB
"""When the day began of a file that is to be written again."""
_SPANS = """
SELECT system_id, min(began_at), max(ended_at)
FROM state.coverage
WHERE system_id IN (SELECT unnest($1))
GROUP BY system_id
"""
_NEWEST = "SELECT max(newest_snapshot) FROM state.partitions WHERE system_id = $1"


SCHEMA = pa.schema(
    [
        ("station_id", pa.string()),
        *[(name, pa.int32()) for name in ("local_weekday", "local_hour")],
        *[(name, pa.int64()) for name in ("p10", "median", "p90", "days")],
        *[(name, pa.float64()) for name in ("known_seconds", "empty_seconds", "full_seconds")],
        *[(name, pa.int64()) for name in ("departures", "arrivals")],
    ]
)
"""The columns of a file."""


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """The table `usual`, empty: the file of each system, the day before which it ends, and when that began.

    `newest_snapshot` is that of the system when it was written.
    """
    connection.execute(
        "CREATE TABLE state.usual (system_id VARCHAR, dt DATE, began_at TIMESTAMP, newest_snapshot TIMESTAMP,"
        " file VARCHAR)"
    )


class Usual:
    """The files of an open working database, by system; the former one of a system stays until the next one comes."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, kept: KeptFiles, zones: Mapping[str, str]) -> None:
        self._run = connection.execute
        self._kept = kept
        self._zones = {system_id: ZoneInfo(zone) for system_id, zone in zones.items()}
        self._written: dict[str, tuple[dt.datetime, dt.datetime | None]] = {}
        """When the local day began before which each system's file ends (naive UTC), and its newest snapshot then."""
        self._waiting = set(self._zones)
        """Systems to look at whether or not anything has changed: those that had to wait, and at first all."""
        self._former: dict[str, Path] = {}
        self.files: dict[Partition, Path] = {}
        """The file of each system, by the local day before which it ends."""
        self._root = kept.root / USUAL
        self._load()

    def _load(self) -> None:
        """Take over what is there; remove what is of no use."""
        for system_id, day, began_at, newest, file in self._run("FROM state.usual").fetchall():
            if system_id in self._zones and Path(file).is_file():
                self._written[system_id] = began_at, newest
                self.files[Partition(system_id, day)] = Path(file)
        for path in self._root.glob("system_id=*/*/*"):
            if path not in self.files.values():
                remove(path)

    def update(
        self,
        sealed: Mapping[Partition, str],
        changed: Collection[Partition],
        read: Collection[Partition],
        since: Mapping[str, dt.datetime],
        seconds: float | None = None,
    ) -> set[str]:
        """Write the files of the systems for which that is due; gives these systems.

        `sealed` has the file in the mirror of each sealed partition. Of the `changed` partitions, those in `read` may
        have changed at any time of their day; the others only have later snapshots. `since` tells from when on a
        system's coverage has changed. No file is begun after `seconds`: the others come with the next calls.
        """
        started, written = time.monotonic(), set[str]()
        systems = {item.system_id for item in changed} | since.keys() | self._waiting
        systems |= {item.system_id for item in sealed} - self._written.keys()
        self._waiting = set()
        asked = [sorted(systems & self._zones.keys())]
        for system_id, first, now in self._run(_SPANS, asked).fetchall():
            today = _midnight(now, self._zones[system_id])
            is_later = any(item.system_id == system_id for item in changed)
            early = since.get(system_id, today) < today or any(
                item.system_id == system_id and _begin(item.day) < today for item in read
            )
            if not (early or self._is_due(system_id, first, today, is_later=is_later)):
                continue
            if seconds is None or time.monotonic() - started < seconds:
                self._note(*self._write(system_id, now, today, sealed), today)
                written.add(system_id)
            else:
                self._waiting.add(system_id)
        self._put_off(self._waiting)
        return written

    def _is_due(self, system_id: str, first: dt.datetime, today: dt.datetime, *, is_later: bool) -> bool:
        """Whether a system known since `first` needs another file today; `is_later`: there are later snapshots."""
        if system_id not in self._written:
            return first < today
        began_at, newest = self._written[system_id]
        return began_at != today or (is_later and (newest is None or newest < today))

    def _put_off(self, systems: AbstractSet[str]) -> None:
        """Let these be due, also in another process."""
        if systems:
            for system_id in systems & self._written.keys():
                self._written[system_id] = _NEVER, self._written[system_id][1]
            self._run(
                "UPDATE state.usual SET began_at = $1 WHERE system_id IN (SELECT unnest($2))", [_NEVER, sorted(systems)]
            )

    def _write(
        self, system_id: str, now: dt.datetime, today: dt.datetime, sealed: Mapping[Partition, str]
    ) -> tuple[Partition, Path]:
        zone = self._zones[system_id]
        local_today = now.replace(tzinfo=UTC).astimezone(zone).date()
        first_day = local_today - DAYS * _DAY
        first = _midnight_of(first_day, zone)
        # a day begins with the last states of the one before
        span = first.date() - _DAY, today.date()
        files = [
            file for item, file in sealed.items() if item.system_id == system_id and span[0] <= item.day <= span[1]
        ]
        self._relations(system_id, span, files)
        folder = self._root / f"system_id={system_id}" / f"dt={local_today}"
        folder.mkdir(parents=True, exist_ok=True)
        part = hidden(folder / "new.parquet")
        values = {"first_day": first_day, "today": local_today, "zone": str(zone)}
        query = usual()
        for name, value in values.items():
            query = query.replace(f"${name}", quoted(str(value)) if name == "zone" else f"DATE '{value}'")
        self._run(f"COPY (\n{query}\n) TO {quoted(str(part))} (FORMAT parquet, COMPRESSION zstd)")
        target = folder / f"usual_{hashlib.sha256(part.read_bytes()).hexdigest()[:16]}.parquet"
        part.replace(target)
        return Partition(system_id, local_today), target

    def _relations(self, system_id: str, span: tuple[dt.date, dt.date], files: Iterable[str]) -> None:
        """The log of changes of these days, as `station_changes` has it, and the coverage."""
        mine = f"system_id = {quoted(system_id)} AND dt BETWEEN DATE '{span[0]}' AND DATE '{span[1]}'"
        paths = [self._kept.empty["station_changes"], *(self._kept.path("station_changes", file) for file in files)]
        listed = ", ".join(quoted(pattern(path)) for path in paths)
        self._run(
            "CREATE OR REPLACE TEMP TABLE usual_ends AS FROM state.spans"
            f" WHERE {mine} AND (system_id, dt) IN (SELECT (system_id, dt) FROM temp.open_station_changes)"
        )
        self._run(
            "CREATE OR REPLACE TEMP VIEW usual_changes AS SELECT *, dt + 1 AS next_dt FROM ("
            f"FROM read_parquet([{listed}], hive_partitioning = true, {HIVE_TYPES})"
            f" UNION ALL BY NAME FROM temp.open_station_changes WHERE {mine}"
            " UNION ALL BY NAME FROM state.last_states('temp.usual_ends'))"
        )
        self._run(
            "CREATE OR REPLACE TEMP VIEW usual_coverage AS FROM working.state.coverage"
            f" WHERE system_id = {quoted(system_id)} AND ended_at >= TIMESTAMP '{span[0]}'"
        )

    def _note(self, day: Partition, file: Path, began_at: dt.datetime) -> None:
        """Name this file from now on instead of the system's former one."""
        ((newest,),) = self._run(_NEWEST, [day.system_id]).fetchall()
        self._written[day.system_id] = began_at, newest
        before = [self.files.pop(item) for item in list(self.files) if item.system_id == day.system_id]
        self.files[day] = file
        unused = self._former.pop(day.system_id, None)
        if unused is not None and unused != file:
            remove(unused)
        if before and before[0] != file:
            self._former[day.system_id] = before[0]
        self._run("DELETE FROM state.usual WHERE system_id = $1", [day.system_id])
        self._run(
            "INSERT INTO state.usual VALUES ($1, $2, $3, $4, $5)", [day.system_id, day.day, began_at, newest, str(file)]
        )


def empty_usual(kept: Path) -> Path:
    """A file without rows below the root of the kept files: it gives the schema; made where it is missing."""
    path = kept / USUAL / NO_PARTITION / "empty.parquet"
    write_empty(path, SCHEMA)
    return path


def _midnight(now: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    """When the local day of this time began; both naive UTC."""
    return _midnight_of(now.replace(tzinfo=UTC).astimezone(zone).date(), zone)


def _midnight_of(day: dt.date, zone: ZoneInfo) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), zone).astimezone(UTC).replace(tzinfo=None)


def _begin(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time())
