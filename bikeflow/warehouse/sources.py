"""How a segment's file comes to the local disk: from the local lake by hard link, from any other store by download."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from bikeflow.core.errors import NotFound
from bikeflow.core.model import SegmentObject
from bikeflow.runtime.files import flush
from bikeflow.store.base import Store
from bikeflow.warehouse.parquet import is_whole


async def fetch(store: Store, segment: SegmentObject, target: Path) -> str | None:
    """Make `target`, which does not exist yet, this version of the segment's file.

    Returns None, or where the store does not hold it now, what it holds instead.
    """
    source = store.local_path(segment.key)
    if source is not None:
        return await asyncio.to_thread(_link, source, segment.size, target)
    try:
        stored = await store.get(segment.key)
    except NotFound:
        return "nothing"
    if stored.info.etag != segment.etag:
        return "another version"
    return await asyncio.to_thread(_write, stored.data, target)


def _link(source: Path, size: int, target: Path) -> str | None:
    """A hard link costs nothing, and keeps its content when the lake replaces the file."""
    try:
        link_or_copy(source, target)
    except FileNotFoundError:
        return "nothing"
    return _checked(target) if target.stat().st_size == size else "another version"


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target`, which does not exist yet, the same file as `source`, or a copy of it."""
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, no hard links here, or too many of them
        shutil.copyfile(source, target)
        flush(target)


def _write(data: bytes, target: Path) -> str | None:
    with target.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return _checked(target)


def _checked(target: Path) -> str | None:
    return None if is_whole(target) else "no whole Parquet file"
