"""Which objects below raw/ are snapshots, and which of them lie where none is looked for, or lie there twice."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter

from bikeflow.core.layout import Layout
from bikeflow.core.model import UTC, ObjectInfo, RawFile
from bikeflow.feeds.base import Format
from bikeflow.store.base import Store, if_found
from bikeflow.verifier.report import Days, Report, concerns

TOLERANCE = dt.timedelta(hours=3)
"""So far beyond its folder's day a snapshot's name may lie: it was fetched about midnight, or named by local time."""
LARGEST_BYTES = 16 * 1024 * 1024
"""What is larger is no snapshot."""


async def list_raw_files(
    store: Store, layout: Layout, raw_format: Format, wanted: Days, report: Report
) -> list[RawFile]:
    """The raw files that are wanted. What else looks like a snapshot is found, all other objects are named."""
    files: list[RawFile] = []
    async for page in store.pages(layout.raw):
        for info in page:
            if not concerns(wanted, info.key):
                continue
            if (file := layout.raw_file(info)) is not None:
                files.append(file)
            elif await _is_snapshot(store, layout, raw_format, info):
                place = f"raw/dt=YYYY-MM-DD/*{layout.raw_suffix}"
                report.find("misplaced_raw", info.key, f"a snapshot that is not processed: it belongs in {place}")
            else:
                report.other_objects.append(info.key)
    _find_misplaced(files, layout, report)
    return files


def _find_misplaced(files: list[RawFile], layout: Layout, report: Report) -> None:
    """Snapshots in another day's folder, and those of one name in several."""
    names = Counter(_name(file.key) for file in files)
    for file in files:
        if (time := layout.snapshot_time(file.key)) is None:
            continue
        first = dt.datetime.combine(file.partition.day, dt.time(), UTC)
        if not -TOLERANCE <= time - first < dt.timedelta(days=1) + TOLERANCE:
            report.find("misplaced_raw", file.key, f"a snapshot of {time.date()} in the folder of another day")
        if names[_name(file.key)] > 1 and time.date() != file.partition.day:
            report.find("doubled_raw", file.key, "the snapshot of this name lies in another folder too")


async def _is_snapshot(store: Store, layout: Layout, raw_format: Format, info: ObjectInfo) -> bool:
    """Whether an object that is not processed has a snapshot's name or content."""
    if _name(info.key).lower().startswith((f"{layout.raw_stem}_", f"{layout.raw_stem}-")):
        return True
    stored = await if_found(store.get(info.key)) if 0 < info.size <= LARGEST_BYTES else None
    return stored is not None and (await asyncio.to_thread(raw_format.count_records, stored.data)).readable


def _name(key: str) -> str:
    return key.rpartition("/")[2]
