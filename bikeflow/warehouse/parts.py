"""How the published views name their files: in two views each, one for the open days and one for the sealed ones.

Naming a file takes a while, and few of those that exist change. So the view of sealed days is made when they change,
and a refresh makes only that of open days: its cost does not grow with the history.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bikeflow.warehouse.statements import FOLLOWED, HIVE_TYPES, MOVED, PARTS, quoted


@dataclass(frozen=True, slots=True)
class FileList:
    """The files of one list, the newest first, as patterns that match just one each: paths, or URLs.

    Those in `former` are of a version that knew fewer columns. They are named apart: to read them with the others by
    the names of columns, every file would have to be opened, also those that a query does not need.
    """

    open: tuple[str, ...] = ()
    sealed: tuple[str, ...] = ()
    former: frozenset[str] = frozenset()


def open_sql(lists: Mapping[str, FileList], empty: Mapping[str, str]) -> Iterator[str]:
    """The statements that create the views of open days' files.

    The file in `empty` gives a list's schema; for one of `MOVED`, a query without rows does where it has no files.
    """
    return (_view_sql(name, "open", empty[name], files.open, files.former) for name, files in lists.items())


def sealed_sql(lists: Mapping[str, FileList], empty: Mapping[str, str]) -> Iterator[str]:
    """The statements that create the views of sealed days' files."""
    return (_view_sql(name, "sealed", empty[name], files.sealed, files.former) for name, files in lists.items())


def whole_sql(names: Iterable[str]) -> Iterator[str]:
    """The statements that create what the published views read, over both."""
    for name in names:
        yield (
            f"CREATE OR REPLACE VIEW {PARTS}.{name} AS FROM {PARTS}.{name}_open UNION ALL FROM {PARTS}.{name}_sealed"
        )


def _view_sql(name: str, kind: str, empty: str, files: Sequence[str], former: Collection[str]) -> str:
    if name in MOVED.values():  # these lie in no folders of a system and day
        return f"CREATE OR REPLACE VIEW {PARTS}.{name}_{kind} AS {_moved_sql(files) if files else empty}"
    parts = [_files_sql([empty, *(file for file in files if file not in former)])]
    if apart := [file for file in files if file in former]:
        parts.append(_files_sql(apart))
    if name in FOLLOWED:  # here and nowhere else does a filter on it leave out files
        parts = [f"SELECT *, dt + 1 AS next_dt {part}" for part in parts]
    return f"CREATE OR REPLACE VIEW {PARTS}.{name}_{kind} AS {' UNION ALL BY NAME '.join(parts)}"


def _moved_sql(files: Sequence[str]) -> str:
    return f"FROM read_parquet({_listed(files)}, hive_partitioning = false)"


def _files_sql(files: Sequence[str]) -> str:
    return f"FROM read_parquet({_listed(files)}, hive_partitioning = true, {HIVE_TYPES})"


def _listed(files: Sequence[str]) -> str:
    # one text, a name a line: each publication reads the views and writes them, and of a list every name by itself
    return f"string_split({quoted(chr(10).join(files))}, chr(10))"
