"""What is current: the rows of each system's newest snapshot, as the working database has them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import duckdb

from bikeflow.core.model import Partition

FORMER_ROWS = """
SELECT *
FROM (
    SELECT
        system_id,
        CAST(file_timestamp AS DATE) AS dt,
        s3_source_key,
        file_timestamp,
        station_id,
        record_type,
        lat,
        lon,
        battery_level,
        range_meters,
        vehicle_type
    FROM state.current_rows
    QUALIFY rank() OVER (PARTITION BY system_id ORDER BY file_timestamp DESC, s3_source_key DESC) = 1
)
WHERE record_type <> 'unknown'
"""
"""What changes of bikes are told by: the rows of the newest snapshot of each system, and its day."""
_SNAPSHOTS = """
SELECT system_id, current.dt AS dt, current."key" AS "key", bool_and(only_stations) AS only_stations
FROM (
    SELECT
        system_id,
        arg_max({'dt': dt, 'key': newest_source_key}, (newest_snapshot, newest_source_key)) AS current,
        false AS only_stations
    FROM state.partitions
    WHERE newest_snapshot IS NOT NULL
    GROUP BY system_id
    UNION ALL
    SELECT
        system_id,
        arg_max({'dt': dt, 'key': newest_stations_key}, (newest_stations_at, newest_stations_key)),
        true
    FROM state.partitions
    WHERE newest_stations_at IS NOT NULL
    GROUP BY system_id
)
GROUP BY ALL
"""
"""The newest snapshot of each system, and where that has no stations, the newest one that has, for its stations."""
_ROWS_OF = """(
    s3_source_key IN (SELECT unnest($1))
    OR (s3_source_key IN (SELECT unnest($2)) AND record_type = 'station')
)"""
"""All rows of some snapshots, and those of stations of others."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A snapshot all of whose rows, or only those of stations, are among a system's current ones."""

    system_id: str
    day: dt.date
    key: str
    only_stations: bool


class CurrentRows:
    """The table `current_rows` of an open working database, whose table `partitions` is up to date."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._run = connection.execute

    def take(self) -> None:
        """Where a system's current snapshots are among what is being read, their rows are the current ones."""
        found = self._snapshots()
        query = "SELECT s3_source_key FROM temp.sources WHERE s3_source_key IN (SELECT unnest($1))"
        keys = [one.key for snapshots in found.values() for one in snapshots]
        read = {key for (key,) in self._run(query, [keys]).fetchall()}
        touched = [snapshots for snapshots in found.values() if any(one.key in read for one in snapshots)]
        self._set([one for snapshots in touched for one in snapshots], read)

    def restore(self, reading: Callable[[Collection[Partition]], AbstractContextManager[None]]) -> None:
        """Where a system's current snapshots have gone, others are: their rows are read from its files.

        `reading` gives a context in which the rows of some partitions are being read.
        """
        run, shown = self._run, dict[str, set[str]]()
        for system_id, key in run("SELECT DISTINCT system_id, s3_source_key FROM state.current_rows").fetchall():
            shown.setdefault(system_id, set()).add(key)
        found = self._snapshots()
        for system_id in shown.keys() - found.keys():
            run("DELETE FROM state.current_rows WHERE system_id = $1", [system_id])
        for system_id, snapshots in found.items():
            keys = {one.key for one in snapshots}
            if keys != shown.get(system_id):
                with reading({Partition(system_id, one.day) for one in snapshots}):
                    self._set(snapshots, keys)

    def _snapshots(self) -> dict[str, list[_Snapshot]]:
        """The current ones of each system."""
        found: dict[str, list[_Snapshot]] = {}
        for row in self._run(_SNAPSHOTS).fetchall():
            found.setdefault(row[0], []).append(_Snapshot(*row))
        return found

    def _set(self, snapshots: Collection[_Snapshot], read: Collection[str]) -> None:
        """Let these be the current ones of their systems; of those that are being read, take the rows."""
        run, systems = self._run, list({one.system_id for one in snapshots})
        kept = _keys(one for one in snapshots if one.key not in read)
        taken = _keys(one for one in snapshots if one.key in read)
        run(
            f"DELETE FROM state.current_rows WHERE system_id IN (SELECT unnest($3)) AND NOT {_ROWS_OF}",
            [*kept, systems],
        )
        run(
            "INSERT INTO state.current_rows BY NAME SELECT * EXCLUDE (dt, row_number) FROM temp.read_rows"
            f" WHERE {_ROWS_OF}",
            taken,
        )


def _keys(snapshots: Iterable[_Snapshot]) -> list[list[str]]:
    """The parameters of `_ROWS_OF`."""
    found = list(snapshots)
    return [[one.key for one in found if one.only_stations is only] for only in (False, True)]
