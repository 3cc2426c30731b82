"""Which objects below raw/ are snapshots, and which of them lie where none is looked for, or lie there twice."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections import defaultdict

from bikeflow.concurrency import bounded_map
from bikeflow.errors import NotFound
from bikeflow.feeds.text import as_utf8
from bikeflow.layout import Layout, snapshot_time
from bikeflow.model import UTC, ObjectInfo, RawFile
from bikeflow.store.base import Store
from bikeflow.transform.document import is_readable
from bikeflow.verifier.report import Days, Report, concerns

CONCURRENT_REQUESTS = 8
TOLERANCE = dt.timedelta(hours=3)
"""So far beyond its folder's day a snapshot's name may lie: it was fetched about midnight, or named by local time."""
LARGEST_BYTES = 16 * 1024 * 1024
"""What is larger is no snapshot."""

_NAMED_LIKE_ONE = re.compile(r"wrm_stations[_-]", re.IGNORECASE)


async def list_raw_files(store: Store, layout: Layout, wanted: Days, report: Report) -> list[RawFile]:
    """The raw files that are wanted. What else looks like a snapshot is found, all other objects are named."""
    files: list[RawFile] = []
    others: list[ObjectInfo] = []
    async for page in store.pages(layout.raw):
        for info in page:
            if not concerns(wanted, info.key):
                continue
            file = layout.raw_file(info)
            if file is None:
                others.append(info)
            else:
                files.append(file)
    _find_misplaced(files, report)
    for info, is_one in zip(
        others, await bounded_map(lambda info: _is_snapshot(store, info), others, CONCURRENT_REQUESTS), strict=True
    ):
        if is_one:
            report.find(
                "misplaced_raw", info.key, "a snapshot that is not processed: it belongs in raw/dt=YYYY-MM-DD/*.txt"
            )
        else:
            report.other_objects.append(info.key)
    return files


def _find_misplaced(files: list[RawFile], report: Report) -> None:
    """Snapshots in another day's folder, and those of one name in several."""
    places: defaultdict[str, list[RawFile]] = defaultdict(list)
    for file in files:
        if (time := snapshot_time(file.key)) is not None:
            places[file.key.rpartition("/")[2]].append(file)
            first = dt.datetime.combine(file.partition, dt.time(), UTC)
            if not (time - first >= -TOLERANCE and time - first < dt.timedelta(days=1) + TOLERANCE):
                report.find("misplaced_raw", file.key, f"a snapshot of {time.date()} in the folder of another day")
    for same in places.values():
        for file in same:
            if len(same) > 1 and file.time.date() != file.partition:
                report.find("doubled_raw", file.key, "the snapshot of this name lies in another folder too")


async def _is_snapshot(store: Store, info: ObjectInfo) -> bool:
    """Whether an object that is not processed has a snapshot's name or content."""
    if _NAMED_LIKE_ONE.match(info.key.rpartition("/")[2]):
        return True
    if not 0 < info.size <= LARGEST_BYTES:
        return False
    try:
        data = (await store.get(info.key)).data
    except NotFound:
        return False
    return await asyncio.to_thread(lambda: is_readable(as_utf8(data)))
