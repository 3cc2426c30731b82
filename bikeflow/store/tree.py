"""The files below a directory, listed in the order of their keys as an object store lists its objects.

A poll lists the end of a day again and again. So that it costs the same at any hour, a directory that has not changed
is not read again, and in one that has changed, only what is new is looked at.
"""

from __future__ import annotations

import datetime as dt
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bikeflow.core.model import UTC, ObjectInfo

_SETTLED_NS = 100_000_000
"""Times of change count in ticks: in a directory read this long after its own, all changes of that tick are seen."""

_QUIET_NS = 60_000_000_000
"""A file that nobody has written to for so long is complete; one that is copied into its place is not, at first."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a listing saw of a file: its inode, which a later file of that name has not, and if it was complete."""

    inode: int
    complete: bool
    info: ObjectInfo


@dataclass(frozen=True, slots=True)
class _Listing:
    """What a directory without others in it held: the objects after a key.

    `changed_at` is the directory's time of change in ns; None where it may still change without another time.
    """

    changed_at: int | None
    after: str
    objects: dict[str, _Seen]


_Listings = dict[tuple[str, str], _Listing]
"""By what the directory's keys begin with, and by the prefix of what was listed."""


class Tree:
    """All files below `root` but those whose name, or whose directory's name, begins with a dot."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: _Listings = {}

    def objects(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        """Those whose keys begin with `prefix` and sort after `after`; directories wholly before it are not read.

        A listing after a key does not read a directory again whose time of change is that of the last such listing, nor
        look again at a file that was complete and has the same inode: only a listing from the beginning sees what
        somebody has written into an old file. Raises OSError; a root that is missing is not an empty one.
        """
        known, listed = self._known if after else {}, _Listings()
        yield from _walk(str(self._root), "", prefix, after, known, listed)
        if after:
            self._known = listed


def object_info(key: str, status: os.stat_result) -> ObjectInfo:
    """What a store tells of the file; its ETag is made of time and size."""
    modified = dt.datetime.fromtimestamp(status.st_mtime_ns // 1_000_000_000, UTC)
    return ObjectInfo(key, status.st_size, f"{status.st_mtime_ns:x}-{status.st_size:x}", modified)


def is_text(name: str) -> bool:
    """False for a file name that isn't UTF-8, which no key can name."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _walk(
    directory: str, base: str, prefix: str, after: str, known: _Listings, listed: _Listings
) -> Iterator[ObjectInfo]:
    """The objects of one directory, whose keys begin with `base`; what it holds is entered in `listed`."""
    former, changed_at = known.get((base, prefix)), _changed_at(directory)
    settled = changed_at is not None and time.time_ns() - changed_at > _SETTLED_NS
    listing = _Listing(changed_at if settled else None, after, {})
    if former is not None and former.changed_at == changed_at is not None and former.after <= after:
        found = [(key, seen.inode) for key, seen in former.objects.items() if key > after]
    else:
        found = _wanted(directory, base, prefix, after)
    before = former.objects if former is not None else {}
    for key, inode in found:
        if key.endswith("/"):
            yield from _walk(f"{directory}/{key[len(base) : -1]}", key, prefix, after, known, listed)
            continue
        seen = before.get(key)
        if seen is None or not seen.complete or seen.inode != inode:
            seen = _look(key, f"{directory}/{key[len(base) :]}")
        if seen is not None:
            listing.objects[key] = seen
            yield seen.info
    if not any(key.endswith("/") for key, _ in found):
        listed[base, prefix] = listing


def _wanted(directory: str, base: str, prefix: str, after: str) -> list[tuple[str, int]]:
    """The entries of a directory in the order of their keys, with their inodes; a folder stands as its prefix.

    A folder sorts as its name with the slash, so that `a-b` < `a.txt` < `a/b`, as their keys do; Python compares
    strings by code point, which is the order of their UTF-8 bytes.
    """
    found = []
    for entry in _scan(directory, base, after[len(base) :] if after.startswith(base) else ""):
        name = entry.name
        key = base + name
        if entry.is_dir():
            key += "/"
            wanted = (key.startswith(prefix) or prefix.startswith(key)) and (key > after or after.startswith(key))
        else:
            wanted = key.startswith(prefix) and key > after
        if wanted and not name.startswith(".") and is_text(name):
            found.append((key, entry.inode()))
    return sorted(found)


def _scan(directory: str, base: str, after: str) -> list[os.DirEntry[str]]:
    """What sorts after this name, or may be the directory in which it lies: a poll asks for the end of a day."""
    try:
        with os.scandir(directory) as entries:
            return [entry for entry in entries if entry.name > after or after.startswith(entry.name)]
    except FileNotFoundError:
        if not base:
            # A lake that went away (a lost mount) is not an empty one: a reconciliation would believe it.
            raise
        return []


def _look(key: str, path: str) -> _Seen | None:
    """What a file is; None for what is no file, or was deleted since the directory was read."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a listing looks at thousands, as plain strings
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    complete = time.time_ns() - status.st_mtime_ns > _QUIET_NS
    return _Seen(status.st_ino, complete, object_info(key, status))


def _changed_at(directory: str) -> int | None:
    with suppress(OSError):
        return os.stat(directory).st_mtime_ns  # noqa: PTH116 - see above
    return None
