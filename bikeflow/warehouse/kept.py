"""Results too large for the published database: for each segment's file of the mirror, Parquet files derived from it.

They are written once, when the segment changes, never changed, and live at least as long as the file that they were
made of: so a reader who still has an earlier publication open finds what that one names. A segment that lies in pieces
has one of each for every piece.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

import duckdb

from bikeflow.warehouse.files import hidden, remove
from bikeflow.warehouse.parquet import swept
from bikeflow.warehouse.reading import reading
from bikeflow.warehouse.statements import kept, pattern, quoted, stamp

LOOKS = 16
"""How many files that are no longer used are looked after at a time: more than an arrival leaves behind."""


class KeptFiles:
    """The files below mirror/kept: `<stamp>/<name>/dt=YYYY-MM-DD/<file of the mirror>`, for each in `sql/kept`."""

    def __init__(self, mirror: Path) -> None:
        self._mirror = mirror
        self._root = mirror.with_name("kept") / stamp()[:12]
        self._escaped_root = pattern(self._root)
        self._present: dict[str, set[str]] = {}
        self._used: set[str] = set()
        self._unused: dict[str, None] = {}

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
        for name in kept():
            root = self._root / name
            root.mkdir(exist_ok=True)
            self._present[name] = set(swept(root))
            self._present[name].discard(str(self.empty[name].relative_to(root)))
        self._used = set[str]().union(*self._present.values())
        with reading(connection, [empty], {}):
            for name, path in self.empty.items():
                self._write(connection, name, path)

    def has(self, segment: str, file: str) -> bool:
        """Whether everything that derives from this version of the segment's file is there."""
        relative = _relative(segment, file)
        return all(relative in present for present in self._present.values())

    def write(self, connection: duckdb.DuckDBPyConnection, segment: str, file: Path) -> None:
        """Write what derives from this version of the segment's file, now being read; raises duckdb.Error, OSError."""
        relative = _relative(segment, file.name)
        self._used.add(relative)  # first: what fails midway is then pruned as well
        for name, present in self._present.items():
            self._write(connection, name, self._root / name / relative)
            present.add(relative)

    def path(self, name: str, segment: str, file: str) -> Path:
        """The file with the rows of this name that derive from this version of the segment's file."""
        return self._root / name / _relative(segment, file)

    def pattern(self, name: str, segment: str, file: str) -> str:
        """What matches just that file."""
        return f"{self._escaped_root}/{name}/{_relative(segment, file)}"

    def prune(self, files: Mapping[str, Iterable[str]]) -> None:
        """Remove what derives from files that the mirror no longer has; `files` are those in use, by segment.

        A day leaves thousands of versions behind: each call looks at some of them in turn.
        """
        used = {_relative(segment, file) for segment, some in files.items() for file in some}
        self._unused.update(dict.fromkeys(sorted(self._used - used)))
        for relative in used - self._used:
            self._unused.pop(relative, None)
        self._used = used
        for relative in list(islice(self._unused, LOOKS)):
            del self._unused[relative]
            if (self._mirror / relative).exists():
                self._unused[relative] = None  # at the end
            else:
                self._remove(relative)

    def _remove(self, relative: str) -> None:
        for name, present in self._present.items():
            path = self._root / name / relative
            path.unlink(missing_ok=True)
            present.discard(relative)
            with contextlib.suppress(OSError):  # mostly there are other files beside it
                path.parent.rmdir()

    @staticmethod
    def _write(connection: duckdb.DuckDBPyConnection, name: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = hidden(target)
        connection.execute(f"COPY (\n{kept()[name]}\n) TO {quoted(str(part))} (FORMAT parquet, COMPRESSION zstd)")
        part.replace(target)


def _relative(segment: str, file: str) -> str:
    return f"{segment.partition('/')[0]}/{file}"
