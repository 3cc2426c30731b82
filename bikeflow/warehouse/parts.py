"""How the published views name their files: in two views each, one for the last segments and one for the rest.

Naming a file takes a while, and few of those that exist change. So the view of settled files is made when they change,
and a refresh makes only that of recent ones: its cost does not grow with the history.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bikeflow.warehouse.statements import PARTS, quoted

RECENT_SEGMENTS = 4
"""The one that is being added to, and those before it to which late files come."""


@dataclass(frozen=True, slots=True)
class FileList:
    """The files of one list, the newest first, as patterns that match just one each: paths, or URLs."""

    recent: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()


def halved(segments: Iterable[str]) -> tuple[list[str], list[str]]:
    """Names of segments (`dt=YYYY-MM-DD/...`) from the newest to the oldest, cut after the most recent ones."""
    newest_first = sorted(segments, reverse=True)
    return newest_first[:RECENT_SEGMENTS], newest_first[RECENT_SEGMENTS:]


def recent_sql(lists: Mapping[str, FileList], empty: Mapping[str, str]) -> Iterator[str]:
    """The statements that create the views of recent files; the file in `empty` gives a list's schema."""
    return (_view_sql(f"{name}_recent", [empty[name], *files.recent]) for name, files in lists.items())


def settled_sql(lists: Mapping[str, FileList], empty: Mapping[str, str]) -> Iterator[str]:
    """The statements that create the views of all others."""
    return (_view_sql(f"{name}_settled", [empty[name], *files.settled]) for name, files in lists.items())


def whole_sql(names: Iterable[str]) -> Iterator[str]:
    """The statements that create what the published views read, over both."""
    for name in names:
        yield (
            f"CREATE OR REPLACE VIEW {PARTS}.{name} AS FROM {PARTS}.{name}_recent UNION ALL FROM {PARTS}.{name}_settled"
        )


def _view_sql(name: str, files: Sequence[str]) -> str:
    # one text, a name a line: each publication reads the views and writes them, and of a list every name by itself
    listed = quoted("\n".join(files))
    return (
        f"CREATE OR REPLACE VIEW {PARTS}.{name} AS"
        f" FROM read_parquet(string_split({listed}, chr(10)), hive_partitioning = true, hive_types = {{'dt': DATE}})"
    )
