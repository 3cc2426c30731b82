"""What is derived from sealed days and too large for the published database: Parquet files beside the mirror's.

They are written once, when a day is sealed, never changed, and live at least as long as the file that they were made
of: so a reader who still has an earlier publication open finds what that one names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import duckdb

from bikeflow.runtime.files import hidden, remove
from bikeflow.warehouse.parquet import swept
from bikeflow.warehouse.statements import KEPT, pattern, quoted, stamp

LOOKS = 16
"""How many files that are no longer used are looked after at a time."""
NO_PARTITION = "system_id=-/dt=0001-01-01"
"""The folder of files without rows."""

_OWN_COLUMNS = "COLUMNS(lambda name: name NOT IN ('system_id', 'dt'))"
"""All but what the file's path tells."""


class KeptFiles:
    """The files below mirror/kept: `<stamp>/<name>/<file of the mirror>`, for each name in `KEPT`.

    `relative` is always the path of the mirror's file below its root, `system_id=<id>/dt=<day>/<file>`.
    """

    def __init__(self, mirror: Path) -> None:
        self._mirror = mirror
        self._root = mirror.with_name("kept") / stamp()[:12]
        self._escaped_root = pattern(self._root)
        self._present: dict[str, set[str]] = {}
        self._used: set[str] = set()
        self._unused: dict[str, None] = {}
        self._only_ours = False

    @property
    def root(self) -> Path:
        """The folder of this version's files."""
        return self._root

    @property
    def empty(self) -> dict[str, Path]:
        """A file without rows for each name: it gives the schema."""
        return {name: self._root / name / NO_PARTITION / "empty.parquet" for name in KEPT}

    def open(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Learn what is there, and remove what is no whole file; the connection's `state` tables give the schemas."""
        self._root.mkdir(parents=True, exist_ok=True)
        for name, empty in self.empty.items():
            root = self._root / name
            root.mkdir(exist_ok=True)
            self._present[name] = set(swept(root))
            self._present[name].discard(str(empty.relative_to(root)))
            self._write(connection, name, empty, f"SELECT {_OWN_COLUMNS} FROM state.{name} LIMIT 0")
        self._used = set[str]().union(*self._present.values())

    def has(self, relative: str) -> bool:
        """Whether everything that derives from this file of the mirror is there."""
        return all(relative in present for present in self._present.values())

    def write(self, connection: duckdb.DuckDBPyConnection, relative: str, queries: dict[str, str]) -> None:
        """Write what derives from a file of the mirror, by name; raises duckdb.Error, OSError."""
        self._used.add(relative)  # first: what fails midway is then pruned as well
        for name, query in queries.items():
            self._write(connection, name, self._root / name / relative, query)
            self._present[name].add(relative)

    def path(self, name: str, relative: str) -> Path:
        """The file with the rows of this name that derive from this file of the mirror."""
        return self._root / name / relative

    def pattern(self, name: str, relative: str) -> str:
        """What matches just that file."""
        return f"{self._escaped_root}/{name}/{relative}"

    def prune(self, used: Iterable[str]) -> None:
        """Remove what derives from files that the mirror no longer has; `used` are those in use.

        Each call looks at some of them in turn. The first one removes the files of other versions: until then the
        published database may have named them.
        """
        if not self._only_ours:
            for other in self._root.parent.iterdir():
                if other != self._root:
                    remove(other)
            self._only_ours = True
        used = set(used)
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
    def _write(connection: duckdb.DuckDBPyConnection, name: str, target: Path, query: str) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = hidden(target)
        connection.execute(f"COPY (\n{query}\n) TO {quoted(str(part))} (FORMAT parquet, COMPRESSION zstd)")
        part.replace(target)
