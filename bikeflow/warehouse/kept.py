"""Results too large for the published database: for each segment's file of the mirror, Parquet files derived from it.

They are written once, when the segment changes, never changed, and live as long as the file that they were made of: so
a reader who still has an earlier publication open finds what that one names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import duckdb

from bikeflow.log import get_logger
from bikeflow.warehouse.files import hidden, remove
from bikeflow.warehouse.parquet import is_whole
from bikeflow.warehouse.statements import kept, pattern, quoted, stamp

log = get_logger()


class KeptFiles:
    """The files below mirror/kept: `<stamp>/<name>/dt=YYYY-MM-DD/<file of the mirror>`, for each in `sql/kept`."""

    def __init__(self, mirror: Path) -> None:
        self._mirror = mirror
        self._root = mirror.with_name("kept") / stamp()[:12]
        self._present: dict[str, set[Path]] = {}

    @property
    def empty(self) -> dict[str, Path]:
        """A file without rows for each name: it gives the schema."""
        return {name: self._root / name / "dt=0001-01-01" / "empty.parquet" for name in kept()}

    def open(self, connection: duckdb.DuckDBPyConnection, empty: Path) -> None:
        """Learn what is there, and remove the rest: files of another version, and what is no whole file.

        `empty` is a file of the enhanced layer without rows.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        for other in self._root.parent.iterdir():
            if other != self._root:
                remove(other)
        self._present = {name: set() for name in kept()}
        for name, present in self._present.items():
            for path in (self._root / name).glob("*/*"):
                if path.suffix == ".parquet" and not path.name.startswith(".") and path.is_file() and is_whole(path):
                    present.add(path)
                else:
                    log.info("mirror_cleaned", path=str(path))
                    remove(path)
            present.discard(self.empty[name])
            self._write(connection, name, empty, self.empty[name])

    def has(self, segment: str, file: Path) -> bool:
        """Whether everything that derives from this version of the segment's file is there."""
        return all(self._path(name, segment, file) in present for name, present in self._present.items())

    def write(self, connection: duckdb.DuckDBPyConnection, segment: str, file: Path) -> None:
        """Write what derives from this version of the segment's file; raises duckdb.Error, OSError."""
        for name, present in self._present.items():
            path = self._path(name, segment, file)
            self._write(connection, name, file, path)
            present.add(path)

    def lists(self, files: Mapping[str, Path]) -> dict[str, list[Path]]:
        """The kept files of these segments, by their name and in the same order."""
        return {name: [self._path(name, *item) for item in files.items()] for name in self._present}

    def prune(self, files: Mapping[str, Path]) -> None:
        """Remove what derives from files that the mirror no longer has; `files` are the current ones."""
        current = self.lists(files)
        for name, present in self._present.items():
            for path in present.difference(current[name]):
                if not (self._mirror / path.relative_to(self._root / name)).exists():
                    path.unlink(missing_ok=True)
                    present.discard(path)
                    with contextlib.suppress(OSError):  # mostly there are other files beside it
                        path.parent.rmdir()

    def _path(self, name: str, segment: str, file: Path) -> Path:
        return self._root / name / segment.partition("/")[0] / file.name

    @staticmethod
    def _write(connection: duckdb.DuckDBPyConnection, name: str, file: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = hidden(target)
        query = kept()[name].replace("$file", pattern(file))
        connection.execute(f"COPY (\n{query}\n) TO {quoted(str(part))} (FORMAT parquet, COMPRESSION zstd)")
        part.replace(target)
