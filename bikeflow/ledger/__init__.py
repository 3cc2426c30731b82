"""The ledger: a SQLite index of the lake under `data_dir`, rebuilt from the lake whenever it is lost.

Its methods are short and synchronous; roles call them through `asyncio.to_thread`.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter, ValidationError

from bikeflow.core.layout import LAYERS, Layer, Layout
from bikeflow.core.model import FetchState, ObjectInfo, Segment, SegmentObject
from bikeflow.ledger.database import Database
from bikeflow.ledger.files import FileIndex, FileResult, identity, result_values, segment_from, set_object
from bikeflow.ledger.missing import MissingFiles
from bikeflow.ledger.runs import RunLog
from bikeflow.runtime.log import get_logger
from bikeflow.settings.sections import WatcherSettings

FILE_NAME = "ledger.sqlite"
_STATE = TypeAdapter(FetchState)
log = get_logger()


class SystemIndex:
    """One system's raw files and segments (`files`), its Parquet files, and the last snapshot of its feed.

    By the Parquet files in the store, and whose they are, a lost ledger learns what is done. `missing` are raw files
    that are not in the store any more.
    """

    def __init__(self, database: Database, layout: Layout, segment_minutes: int, watcher: WatcherSettings) -> None:
        self._database = database
        self._layout = layout
        self._system_id = layout.system_id
        self.files = FileIndex(database, layout, segment_minutes)
        self.missing = MissingFiles(database, layout, watcher)

    def settle_in(self, place: str) -> None:
        """The system's lake lies at `place`: what is known of one elsewhere is forgotten, for nothing of it is here."""
        if self.knows(place):
            return
        with self._database.transaction() as transaction:
            if transaction.run("lake", system_id=self._system_id).fetchone() is not None:
                for name in (
                    "raw_files",
                    "missing_raw_files",
                    "segments",
                    "sealed",
                    "foreign_objects",
                    "reconciliations",
                ):
                    transaction.run(f"leave_{name}", system_id=self._system_id)
            transaction.run("set_lake", system_id=self._system_id, place=place)

    def knows(self, place: str) -> bool:
        """Whether it is an index of the lake that lies there."""
        row = self._database.row("lake", system_id=self._system_id)
        return row is not None and row["place"] == place

    def known_objects(self, layer: Layer) -> dict[str, tuple[Segment, str]]:
        """Segment and ETag of every file of a layer that we wrote or adopted, by key."""
        rows = self._database.rows("segments_of_system", system_id=self._system_id)
        found = [(segment_from(row), row[f"{layer}_etag"]) for row in rows]
        return {self._layout.segment_key(layer, item[0]): item for item in found if item[1] is not None}

    def foreign_objects(self) -> dict[str, str]:
        """ETags of the files that are not ours, by key."""
        return self._database.pairs("foreign_objects", system_id=self._system_id)

    def set_foreign_objects(self, etags: Mapping[str, str]) -> None:
        """Remember exactly these files as not ours."""
        rows = [{"system_id": self._system_id, "key": key, "etag": etag} for key, etag in etags.items()]
        with self._database.transaction() as transaction:
            transaction.run("forget_foreign_objects", system_id=self._system_id)
            transaction.run_many("add_foreign_object", rows)

    def lost(self, segment: Segment, layer: Layer) -> None:
        """The segment's file in a layer is gone or was replaced by something else: write it again."""
        with self._database.transaction() as transaction:
            transaction.run("want_known_segment", **identity(segment))
            set_object(transaction, identity(segment), layer, None)

    def adopt(self, segment: Segment, objects: Mapping[Layer, ObjectInfo], results: Sequence[FileResult]) -> bool:
        """Take over a segment as its footers describe it: `results`, whose `etag` is that of the file as processed.

        Returns whether it is complete: both layers there, made of exactly the raw files that are now wanted in it.
        """
        place = identity(segment)
        self.files.unwritten.replaced(segment)
        with self._database.transaction() as transaction:
            transaction.run("adopt_segment", **place)
            # What was known of the segment's content was true of the files that these have replaced.
            transaction.run("process_segment_again", **place)
            adopted = [transaction.run("adopt_raw_file", **place, **result_values(result)) for result in results]
            row = transaction.run("segment_with_count", **place).fetchone()
            complete = (
                sum(cursor.rowcount for cursor in adopted) == len(results) == row["files"]
                and row["segment_start"] == place["start"]
                and set(objects) == set(LAYERS)
            )
            for layer, info in objects.items():
                set_object(transaction, place, layer, info)
            if complete:
                transaction.run("segment_done", **place, wanted=row["wanted"])
            else:
                transaction.run("want_known_segment", **place)
        return complete

    def fetch_state(self) -> FetchState | None:
        """The last snapshot, or None where nothing was fetched yet."""
        row = self._database.row("fetch_state", system_id=self._system_id)
        if row is None:
            return None
        try:
            return _STATE.validate_json(row["state"])
        except ValidationError as error:
            # damaged; the archive knows the last snapshot as well
            log.warning("fetch_state_damaged", error=str(error))
            return None

    def save_fetch_state(self, state: FetchState) -> None:
        """Replace what is remembered."""
        with self._database.transaction() as transaction:
            text = _STATE.dump_json(state).decode()
            transaction.run("save_fetch_state", system_id=self._system_id, state=text)


class Ledger:
    """One file with an index of each system, by its id, and what all systems share: runs.

    `read_only`, `at_rest` and `shared` as for `Database`.
    """

    def __init__(
        self,
        data_dir: Path,
        layouts: Iterable[Layout],
        segment_minutes: int,
        *,
        read_only: bool = False,
        at_rest: bool = False,
        shared: bool = False,
        watcher: WatcherSettings | None = None,
    ) -> None:
        database = self._database = Database(data_dir / FILE_NAME, read_only=read_only, at_rest=at_rest, shared=shared)
        self.systems: Mapping[str, SystemIndex] = {
            layout.system_id: SystemIndex(database, layout, segment_minutes, watcher or WatcherSettings())
            for layout in layouts
        }
        self.runs = RunLog(database)

    def published_segments(self) -> list[SegmentObject] | None:
        """The enhanced files of all systems whose lake is known; None while none is."""
        found = [index.files.published_segments() for index in self.systems.values()]
        known = [segments for segments in found if segments is not None]
        return [segment for segments in known for segment in segments] if known else None

    def totals(self, day: dt.date | None = None) -> dict[str, int]:
        """Counts for `status` over all systems, of one day or of all; see `FileIndex.totals`."""
        counts: Counter[str] = Counter()
        for index in self.systems.values():
            counts.update(index.files.totals(day or dt.date.min, day or dt.date.max))
        return dict(counts)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
