"""Rows of open days that were moved from tables to Parquet files, those of all systems together.

So neither the databases nor the cost of a publication grow through the day. Only rows are moved that adding a snapshot
or a poll never needs again, and a file never changes. When a partition is read again or sealed, its moved rows are
ignored. A file that has no other rows is no longer named, and is removed a while later.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterable
from pathlib import Path

import duckdb

from bikeflow.core.model import Partition
from bikeflow.runtime.files import hidden
from bikeflow.warehouse.documentation import quoted_name
from bikeflow.warehouse.mirror import RETAINED_BYTES, RETAINED_SECONDS
from bikeflow.warehouse.parquet import is_whole
from bikeflow.warehouse.statements import KEPT, MOVED, POLLS, pattern, quoted

MOVED_ROWS = 200_000
"""So many new rows may be in the tables before they are moved."""
_NEWEST = {
    "station_changes": "row_number() OVER (PARTITION BY system_id, dt, station_id ORDER BY ordinal DESC)",
    POLLS: "row_number() OVER (PARTITION BY system_id ORDER BY due_at DESC)",
}
"""Where the newest row stays in the table: a station's next change is found by it, a poll's record may be replaced."""
_OF_THESE = "(system_id, dt) IN (SELECT (unnest($1), unnest($2)))"
_FORGET_FILES = """
DELETE FROM state.moved_files AS file
WHERE NOT EXISTS (FROM state.moved WHERE name = file.name AND file_number = file.file_number)
"""
_ROWS = f"SELECT {' + '.join(f'(SELECT count(*) FROM state.{name})' for name in MOVED)}"


class MovedRows:
    """The files below `root`, `<name>/<number>.<digest>.parquet`, of the working database that is open.

    For each name in `MOVED`, its temporary view `open_<name>` has all rows of open days: of the table, and of files.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._left = 0
        """How many rows the tables had after rows were last moved."""
        self._retired: dict[Path, tuple[float, int]] = {}
        """Files that are named no more: since when, and their size."""
        self.files: dict[str, tuple[Path, ...]] = {}
        """The files of each name, the newest first."""
        self.empty: dict[str, str] = {}
        """A query without rows for each name, with the columns of its files."""

    def open(self, connection: duckdb.DuckDBPyConnection) -> set[Partition]:
        """Work in this database from now on; gives the partitions that lack rows, as a file is gone or damaged."""
        self._run = connection.execute
        self._left, self._forgot = 0, True
        for name in MOVED:
            (self._root / name).mkdir(parents=True, exist_ok=True)
            columns = self._run(f"SELECT column_name, column_type FROM (DESCRIBE state.{name})").fetchall()
            own = [
                f"CAST(NULL AS {kind}) AS {quoted_name(column)}"
                for column, kind in (*columns, ("file_number", "BIGINT"))
            ]
            self.empty[name] = f"SELECT {', '.join(own)} WHERE false"
        files = self._run("SELECT name, file_number, file FROM state.moved_files").fetchall()
        lost = [(name, number) for name, number, file in files if not _is_whole(self._root / name / file)]
        of_these = "(name, file_number) IN (SELECT (unnest($1), unnest($2)))"
        keys = [[name for name, _ in lost], [number for _, number in lost]]
        found = self._run(f"SELECT DISTINCT name, system_id, dt FROM state.moved WHERE {of_these}", keys).fetchall()
        self._run(f"DELETE FROM state.moved_files WHERE {of_these}", keys)
        self._name_files()
        named = {path for files in self.files.values() for path in files}
        self._retire(path for path in self._root.glob("*/*") if path not in named)
        if any(name == POLLS for name, *_ in found):
            self._run("DELETE FROM state.poll_source")  # they are taken from there again
        return {Partition(*row) for name, *row in found if name in KEPT}

    def move(self) -> bool:
        """Move rows if there are many, in a transaction of the caller; tells whether any were."""
        ((rows,),) = self._run(_ROWS).fetchall()
        self._left = min(self._left, rows)  # less where days were sealed
        if rows - self._left < MOVED_ROWS:
            return False
        ((number,),) = self._run("SELECT coalesce(max(file_number), 0) + 1 FROM state.moved_files").fetchall()
        for name in MOVED:
            self._move(name, number)
        ((self._left,),) = self._run(_ROWS).fetchall()
        self._name_files()
        return True

    def forget(self, partition: Partition) -> None:
        """Ignore a partition's moved rows, but for polls, from now on; in a transaction of the caller."""
        self._run(
            "DELETE FROM state.moved WHERE name <> $1 AND system_id = $2 AND dt = $3",
            [POLLS, partition.system_id, partition.day],
        )
        self._forgot = True

    def forget_polls(self, partitions: Collection[Partition] | None = None) -> None:
        """Ignore the moved polls of these partitions, or all, from now on; in a transaction of the caller."""
        which = "true" if partitions is None else _OF_THESE
        self._run(f"DELETE FROM state.moved WHERE name = '{POLLS}' AND {which}", partitions and _keys(partitions))
        self._forgot = True

    def take_back_polls(self, partitions: Collection[Partition]) -> None:
        """Bring the moved polls of these partitions back to the table, where they can be replaced."""
        moved = f"SELECT 1 FROM state.moved WHERE name = '{POLLS}' AND {_OF_THESE} LIMIT 1"
        if self._run(moved, _keys(partitions)).fetchall():
            self._run(f"CREATE TEMP TABLE back AS FROM temp.open_{POLLS} WHERE {_OF_THESE}", _keys(partitions))
            self._run(f"DELETE FROM state.{POLLS} WHERE {_OF_THESE}", _keys(partitions))
            self._run(f"INSERT INTO state.{POLLS} FROM temp.back")
            self._run("DROP TABLE temp.back")
            self.forget_polls(partitions)

    def settle(self) -> None:
        """Stop naming files all of whose rows are ignored."""
        if self._forgot:
            self._run(_FORGET_FILES)
            self._name_files()
            self._forgot = False

    def prune(self) -> None:
        """Remove files that no publication has named for a while; the newest one is made of `files`."""
        now, total = time.monotonic(), sum(size for _, size in self._retired.values())
        for path, (since, size) in list(self._retired.items()):
            if now - since <= RETAINED_SECONDS and total <= RETAINED_BYTES:
                break
            total -= size
            path.unlink(missing_ok=True)
            del self._retired[path]

    def _move(self, name: str, number: int) -> None:
        newest = _NEWEST.get(name)
        going, staying = (f"QUALIFY {newest} > 1", f"QUALIFY {newest} = 1") if newest else ("", "LIMIT 0")
        ((partitions,),) = self._run(
            f"INSERT INTO state.moved SELECT DISTINCT $1, $2, system_id, dt FROM (FROM state.{name} {going})",
            [name, number],
        ).fetchall()
        if not partitions:
            return
        part = self._copy(name, going, number)
        target = part.with_name(f"{number}.{hashlib.sha256(part.read_bytes()).hexdigest()[:16]}.parquet")
        part.replace(target)
        self._run("INSERT INTO state.moved_files VALUES ($1, $2, $3)", [name, number, target.name])
        self._run(f"CREATE OR REPLACE TEMP TABLE staying AS FROM state.{name} {staying}")
        self._run(f"DELETE FROM state.{name}")
        self._run(f"INSERT INTO state.{name} FROM temp.staying")
        self._run("DROP TABLE temp.staying")

    def _copy(self, name: str, which: str, number: int) -> Path:
        """Write rows of a table to a new file, those of a system together."""
        part = hidden(self._root / name / "new.parquet")
        rows = (
            f"SELECT *, CAST({number} AS BIGINT) AS file_number FROM (FROM state.{name} {which}) ORDER BY system_id, dt"
        )
        options = "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 20_480"
        self._run(f"COPY ({rows}) TO {quoted(str(part))} ({options})")
        return part

    def _name_files(self) -> None:
        """Let `files` and the views be what the tables tell."""
        before = {path for files in self.files.values() for path in files}
        known = self._run("SELECT name, file FROM state.moved_files ORDER BY file_number DESC").fetchall()
        self.files = {name: tuple(self._root / name / file for own, file in known if own == name) for name in MOVED}
        for name, files in self.files.items():
            rows = f"FROM working.state.{name}"
            if files:
                listed = ", ".join(quoted(pattern(path)) for path in files)
                rows += (
                    " UNION ALL BY NAME SELECT * EXCLUDE (file_number)"
                    f" FROM read_parquet([{listed}], hive_partitioning = false)"
                    f" SEMI JOIN (FROM working.state.moved WHERE name = {quoted(name)})"
                    " USING (system_id, dt, file_number)"
                )
            self._run(f"CREATE OR REPLACE TEMP VIEW open_{name} AS {rows}")
        named = {path for files in self.files.values() for path in files}
        for path in named & self._retired.keys():
            del self._retired[path]
        self._retire(before - named)

    def _retire(self, paths: Iterable[Path]) -> None:
        for path in sorted(paths):
            if path.exists():
                self._retired.setdefault(path, (time.monotonic(), path.stat().st_size))


def _is_whole(path: Path) -> bool:
    return path.is_file() and is_whole(path)


def _keys(partitions: Collection[Partition]) -> list[list[object]]:
    return [[partition.system_id for partition in partitions], [partition.day for partition in partitions]]
